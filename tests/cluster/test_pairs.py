"""Both roles of a service go together, for every kind, whatever happens between the two writes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import TypeAlias

import pytest

from heteroscale.adapters.wall_clock import WallClock
from heteroscale.config.cluster_sections import ScalableKind
from heteroscale.controller import Files, controller
from heteroscale.entities.action import OutcomeKind, ScaleAction
from heteroscale.loop import TickReport
from heteroscale.subcluster.scalables import SCALABLES
from tests.cluster.control_plane import TOKEN, ControlPlane, until
from tests.cluster.faulty import Asked, Cut, Fault, Refused, before
from tests.cluster.hands import counts, pair, pair_of
from tests.cluster.serving import METRICS, served_tps, serving
from tests.cluster.test_in_place import SERVICES, written
from tests.cluster.worlds import fleet_of
from tests.integration.prometheus_server import scraping

#: what is written at once: one count more would be within what the ratio tolerates
BEFORE = {"prefill": 2, "decode": 2}
DONE = {"prefill": 4, "decode": 4}
#: role, outcome and its detail
Sent: TypeAlias = tuple[str, OutcomeKind, str]
KINDS = list(ScalableKind)
#: kinds whose roles stand on objects of their own: a write of one may fail by itself
APART = [kind for kind in KINDS if SCALABLES[kind].has_scale]
CLUSTER = """\
name: alpha
workloads:
  - {{service: chat, role: prefill, accelerator: H20, kind: {kind}, namespace: {namespace},
     name: {prefill.name}, component: {prefill_component}}}
  - {{service: chat, role: decode, accelerator: H20, kind: {kind}, namespace: {namespace},
     name: {decode.name}, component: {decode_component}}}
routing_label: {{key: heteroscale.dev/route, value: "on"}}
"""


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Load for four of each role, for all tests here."""
    folder = tmp_path_factory.mktemp("pairs")
    with serving("chat") as engines, scraping(folder, engines.address, {}) as url:
        engines.load("chat", 380.0)
        until(lambda: served_tps(url) > 360.0, "the load shows in Prometheus")
        yield url


def files_of(
    folder: Path, plane: ControlPlane, prometheus: str, kind: ScalableKind, namespace: str
) -> Files:
    files = written(folder, plane, prometheus)
    prefill, decode = pair_of(kind, namespace)
    text = CLUSTER.format(
        kind=kind.value,
        namespace=namespace,
        prefill=prefill,
        decode=decode,
        prefill_component=prefill.component or "null",
        decode_component=decode.component or "null",
    )
    text += f"lease: {{name: {namespace}}}\n"
    files.cluster.write_text(text, encoding="utf-8")
    # Long enough for a quiet watch, short enough to wait for what nobody has seen.
    services = SERVICES.replace("interval_s: 1.0", "interval_s: 1.0, stale_s: 17.0")
    services = services.replace("guard: {", "guard: {step_out: 1.0, ")
    files.services.write_text(services, encoding="utf-8")
    files.metrics.write_text(METRICS.format(url=prometheus), encoding="utf-8")
    return files


def sent(reports: list[TickReport]) -> list[Sent]:
    return [
        (action.role, outcome.kind, outcome.detail)
        for report in reports
        for action, outcome in zip(report.sent, report.outcomes, strict=True)
        if isinstance(action, ScaleAction)
    ]


def sets_prefill(asked: Asked, kind: ScalableKind) -> bool:
    """Return whether a request sets the count of prefill, by itself or with the other."""
    scalable = SCALABLES[kind]
    if scalable.has_scale:
        return asked.method == "PUT" and f"/{scalable.plural}/prefill/scale" in asked.path
    return asked.method == "PATCH" and f"/{scalable.plural}/" in asked.path


class Course:
    """A controller's ticks, and what is changed in its world on the way."""

    def __init__(self, files: Files) -> None:
        self._files = files

    def until(self, holds: Callable[[], bool], most: int = 40) -> list[Sent]:
        """Tick until something holds; return what was sent meanwhile, counts only."""
        stop, reports = Event(), list[TickReport]()

        def told(report: TickReport) -> None:
            reports.append(report)
            if holds():
                stop.set()

        with controller(self._files, WallClock(), observe=False) as running:
            running.run(stop, told, most)
        assert stop.is_set(), f"not within {most} ticks: {sent(reports)}"
        return sent(reports)


@pytest.mark.parametrize("kind", APART)
def test_what_is_refused_to_one_role_leaves_the_other_as_it_was_until_both_can(
    plane: ControlPlane, prometheus: str, tmp_path: Path, kind: ScalableKind
) -> None:
    namespace = f"refused-{kind.lower()[:20]}"
    files = files_of(tmp_path, plane, prometheus, kind, namespace)
    refused: list[Asked] = []

    def refuses(asked: Asked) -> Fault | None:
        if not sets_prefill(asked, kind) or len(refused) == 2:
            return None
        assert counts(client, kind, namespace) == BEFORE
        refused.append(asked)
        return Refused(422)

    with (
        plane.client() as client,
        fleet_of(client, namespace),
        pair(client, kind, namespace),
        before(plane, "pairs", TOKEN) as (between, way_in),
    ):
        between.rule = refuses
        course = Course(replace(files, kubeconfig=way_in))
        scaled = course.until(lambda: counts(client, kind, namespace) == DONE)
        refusal = "HTTP 422: refused by a test: 422"
        apart = [
            ("decode", OutcomeKind.REFUSED, f"not without prefill on H20: {refusal}"),
            ("prefill", OutcomeKind.REFUSED, refusal),
        ]
        both = [("decode", OutcomeKind.APPLIED, ""), ("prefill", OutcomeKind.APPLIED, "")]
        assert scaled == [*apart, *apart, *both]


def test_what_cannot_be_rehearsed_is_tried(
    plane: ControlPlane, prometheus: str, tmp_path: Path
) -> None:
    kind, namespace = ScalableKind.DEPLOYMENT, "unrehearsed"
    files = files_of(tmp_path, plane, prometheus, kind, namespace)
    with (
        plane.client() as client,
        fleet_of(client, namespace),
        pair(client, kind, namespace),
        before(plane, "pairs", TOKEN) as (between, way_in),
    ):
        between.rule = lambda asked: Refused(400) if "dryRun" in asked.path else None
        course = Course(replace(files, kubeconfig=way_in))
        scaled = course.until(lambda: counts(client, kind, namespace) == DONE)
        assert {outcome for _, outcome, _ in scaled} == {OutcomeKind.APPLIED}


@pytest.mark.parametrize("kind", KINDS)
def test_a_pair_that_was_written_by_half_is_finished(
    plane: ControlPlane, prometheus: str, tmp_path: Path, kind: ScalableKind
) -> None:
    namespace = f"half-{kind.lower()[:20]}"
    files = files_of(tmp_path, plane, prometheus, kind, namespace)
    halves: list[dict[str, int]] = []
    others = not SCALABLES[kind].has_scale

    def one_fails(asked: Asked) -> Fault | None:
        if not sets_prefill(asked, kind) or "dryRun" in asked.path or len(halves) == 5:
            return None
        if not others:
            until(lambda: counts(client, kind, namespace)["decode"] == 4, "decode is written")
        halves.append(counts(client, kind, namespace))
        return Refused(409)

    with (
        plane.client() as client,
        fleet_of(client, namespace),
        pair(client, kind, namespace),
        before(plane, "pairs", TOKEN) as (between, way_in),
    ):
        between.rule = one_fails
        course = Course(replace(files, kubeconfig=way_in))
        course.until(lambda: counts(client, kind, namespace) == DONE)
        assert halves == [BEFORE if others else {"prefill": 2, "decode": 4}] * 5


@pytest.mark.parametrize("heard", [False, True], ids=["not heard", "heard, no answer"])
@pytest.mark.parametrize("kind", [ScalableKind.DEPLOYMENT, ScalableKind.MODEL_SERVING])
def test_a_pair_that_was_written_by_half_is_finished_by_whoever_starts_next(
    plane: ControlPlane, prometheus: str, tmp_path: Path, kind: ScalableKind, heard: bool
) -> None:
    namespace = f"next-{kind.lower()[:20]}-{'heard' if heard else 'lost'}"
    files = files_of(tmp_path, plane, prometheus, kind, namespace)
    together = not SCALABLES[kind].has_scale
    broken: list[Asked] = []

    def breaks(asked: Asked) -> Fault | None:
        sets = sets_prefill(asked, kind) and "dryRun" not in asked.path
        if sets:
            broken.append(asked)
        return Cut(heard) if sets else None

    with (
        plane.client() as client,
        fleet_of(client, namespace),
        pair(client, kind, namespace),
        before(plane, "pairs", TOKEN) as (between, way_in),
    ):
        between.rule = breaks
        first = Course(replace(files, kubeconfig=way_in, state=tmp_path / "first"))
        half = first.until(lambda: bool(broken))
        assert {(role, outcome) for role, outcome, _ in half} == {
            ("prefill", OutcomeKind.UNKNOWN),
            ("decode", OutcomeKind.UNKNOWN if together else OutcomeKind.APPLIED),
        }
        assert counts(client, kind, namespace) == {
            "prefill": 4 if heard else 2,
            "decode": 4 if heard or not together else 2,
        }
        between.rule = lambda _: None
        second = Course(replace(files, kubeconfig=way_in, state=tmp_path / "second"))
        finishing = second.until(lambda: counts(client, kind, namespace) == DONE)
        assert all(outcome is OutcomeKind.APPLIED for _, outcome, _ in finishing)
