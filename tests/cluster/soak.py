"""Controllers on a real cluster while much goes wrong between them, it and Prometheus, by seed.

A seed is a world of its own: a namespace, three services of two roles, their loads, and faults
that strike for half a minute. Every tick is held to the numbered invariants of `sim/checker.py`
and, from outside, to what the metrics truly were. Then all is well again, and the counts must come
to what the loads ask for, with no pod left out of rotation.

    python -m tests.cluster.soak --seeds 0..199
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread
from typing import Any

import httpx
import numpy as np

from heteroscale.adapters.wall_clock import WallClock
from heteroscale.config.load import load_fleet
from heteroscale.controller import Files, controller
from heteroscale.entities.action import Effect
from heteroscale.entities.decision import Direction
from heteroscale.loop import TickReport
from heteroscale.sim.checker import ServiceChecks, sent_wrongly
from heteroscale.subcluster.pods import ROTATION
from tests.cluster.control_plane import TOKEN, ControlPlane, control_plane
from tests.cluster.faults import LIES, UNKNOWN, Weather, episodes
from tests.cluster.faulty import FaultyServer, before, faulty
from tests.cluster.serving import METRICS, Serving, serving
from tests.cluster.worlds import ROUTE, deployment, fleet_of, made, node
from tests.integration.prometheus_server import scraping

SERVICES = ("a", "b", "c")
ROLES = ("prefill", "decode")
TARGET_TPS = 100.0
#: instances of each role that a load may ask for; at the least one may still be given back
LEAST, MOST = 2, 4
CHAOS_S = 30.0
#: by then everything must be as the loads ask for. On a quiet machine it is within half a minute;
#: unknown outcomes alone take `STALE_S`
CALM_S = 240.0
STALE_S = 17.0
#: a tick may rest on what was read just before a lie began
GRACE_S = 1.5
#: a demand of so long ago may still be decided on: windows, waits, and a busy machine
LATELY_S = 15.0
_NODES = 64
#: looks in a row, half a second apart, that must find nothing amiss
_KEPT = 8
_STREAM = 0xC1A5

FLEET = """\
fleet:
  interval_s: 1.0
  stale_s: {stale_s}
  brake: {{share: 0.6, services: 2}}
services:
"""
SERVICE = """\
  - name: {name}
    priority: 50
    slo: {{ttft_s: 1.0, tbt_s: 0.04, quantile: 0.9}}
    group:
      roles:
        prefill: {{share: 1, max_replicas: 4, accelerators: [{{type: H20, gpus: 1}}]}}
        decode: {{share: 1, max_replicas: 4, accelerators: [{{type: H20, gpus: 1}}]}}
    policy:
      proportional: [{{signal: tps, role: decode, target: 100.0}}]
      guard: {{cool_down_out_s: 2, cool_down_in_s: 3, stabilization_window_s: 2,
              step_out: 1.0, step_in: 1.0}}
      trust: {{stale_s: 6}}
    lifecycle: {{observe_s: 2, drain_timeout_s: 2, unknown_restore_s: 10, gate_timeout_s: 5,
                pending_timeout_s: 10}}
"""
WORKLOAD = """\
  - {{service: {service}, role: {role}, accelerator: H20, kind: Deployment,
     namespace: {namespace}, name: {short}-{role}}}
"""


@dataclass(frozen=True)
class Scene:
    """What all worlds of one run share."""

    plane: ControlPlane
    prometheus: str
    engines: Serving
    folder: Path


@dataclass
class World:
    """One seed's controller and what is around it."""

    seed: int
    scene: Scene
    began_s: float = field(default_factory=WallClock().now_s)
    broken: list[str] = field(default_factory=list)
    ticks: int = 0
    #: controllers so far
    runs: int = 0
    settled_s: float = 0.0
    #: what each service's load asks for in the end, instances of each role
    asked: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        chance = np.random.default_rng([self.seed, _STREAM])
        self.episodes = episodes(chance, CHAOS_S)
        #: (second, service, load): the last ones stay
        self.loads = [
            (float(chance.uniform(0.0, CHAOS_S)), name, int(chance.integers(LEAST, MOST + 1)))
            for name in self.names
            for _ in range(2)
        ]
        self.restarts = sorted(chance.uniform(2.0, CHAOS_S, size=int(chance.integers(0, 3))))

    @property
    def namespace(self) -> str:
        return f"soak-{self.seed}"

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(f"s{self.seed}-{short}" for short in SERVICES)

    def least(self, service: str, at_s: float) -> int:
        """Return the fewest instances that a service's load asked for lately."""
        course = [
            (0.0, LEAST),
            *sorted((one[0], one[2]) for one in self.loads if one[1] == service),
        ]
        lately = [load for from_s, load in course if at_s - LATELY_S <= from_s <= at_s]
        before = [load for from_s, load in course if from_s < at_s - LATELY_S]
        return min([*lately, *before[-1:]])

    def since_s(self) -> float:
        """Return the world's age."""
        return WallClock().now_s() - self.began_s

    def files(self, kubeconfig: Path, prometheus: str) -> Files:
        """Write what the controller is set up by."""
        folder = self.scene.folder / self.namespace
        folder.mkdir()
        services = FLEET.format(stale_s=STALE_S)
        services += "".join(SERVICE.format(name=name) for name in self.names)
        cluster = "name: alpha\nworkloads:\n" + "".join(
            WORKLOAD.format(service=name, role=role, namespace=self.namespace, short=short)
            for name, short in zip(self.names, SERVICES, strict=True)
            for role in ROLES
        )
        cluster += f'routing_label: {{key: {ROUTE}, value: "on"}}\n'
        cluster += f"lease: {{name: {self.namespace}, duration_s: 5}}\n"
        metrics = METRICS.format(url=prometheus)
        for name, text in (("services", services), ("cluster", cluster), ("metrics", metrics)):
            (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
        return Files(
            services=folder / "services.yaml",
            metrics=folder / "metrics.yaml",
            cluster=folder / "cluster.yaml",
            state=folder / "state",
            kubeconfig=kubeconfig,
        )


class Checks:
    """Every tick held to the invariants, and scale-in to what the metrics truly were."""

    def __init__(self, world: World, files: Files) -> None:
        self._world = world
        self._services = [ServiceChecks(spec) for spec in load_fleet(files.services).services]

    def __call__(self, report: TickReport) -> None:
        world = self._world
        world.ticks += 1
        broken = [*report.excluded.values(), *sent_wrongly(report), *self._misled(report)]
        broken += [one for one in report.notices if one.startswith("begin:")]
        if not report.excluded:
            for service in self._services:
                broken += service.broken(report)
        at_s = report.snapshot.now_s - world.began_s
        world.broken += [f"{at_s:.1f} s: {one}" for one in broken]

    def _misled(self, report: TickReport) -> Iterator[str]:
        """Yield what was scaled in while the metrics told nothing, or lied."""
        at_s = report.snapshot.now_s - self._world.began_s
        lies = {one.kind for one in self._world.episodes if one.covers(at_s, LIES, GRACE_S)}
        for decision in report.plan.decisions:
            falls = decision.direction is Direction.IN
            if falls and lies & UNKNOWN:
                yield f"{decision.service}: decided to scale in, and nothing was known"
            elif falls and lies:
                had, wanted = decision.capacity["decode"], self._world.least(decision.service, at_s)
                if had < wanted:
                    yield f"{decision.service}: decided on {had}, {wanted} were needed: {lies}"
        for action in report.sent:
            if action.effect is Effect.IN and lies & UNKNOWN:
                yield f"{action.service}: scaled in, and nothing was known"


def run_seed(scene: Scene, seed: int) -> World:
    """Live one world from beginning to end; what is wrong stands in it."""
    world = World(seed, scene)
    pairs = [deployment(f"{short}-{role}", 2) for short in SERVICES for role in ROLES]
    with (
        scene.plane.client() as client,
        fleet_of(client, world.namespace, *pairs),
        before(scene.plane, world.namespace, TOKEN) as (api, way_in),
        faulty(scene.prometheus) as metrics,
    ):
        for name in world.names:
            scene.engines.load(name, 2 * TARGET_TPS - 30.0)
        files = world.files(way_in, metrics.url)
        world.began_s = WallClock().now_s()
        with controlled(world, files) as restart:
            try:
                _chaos(world, api, metrics, restart)
                _calm(world, client)
            except Exception as error:  # noqa: BLE001 - whatever it is, the seed is what matters
                world.broken.append(f"{world.since_s():.1f} s: {type(error).__name__}: {error}")
    return world


class Controlled:
    """The controller of a world, in a thread; ended and begun anew at will."""

    def __init__(self, world: World, files: Files) -> None:
        self._world = world
        self._files = files
        self._told = Checks(world, files)
        self._stop = Event()
        self._thread = Thread(target=self._run)
        self._thread.start()

    def restart(self) -> None:
        """Begin another run, which remembers nothing by itself."""
        self.end()
        self._stop = Event()
        self._thread = Thread(target=self._run)
        self._thread.start()

    def end(self) -> None:
        """Stop it cleanly."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        world = self._world
        world.runs += 1
        state = self._files.state / str(world.runs)
        files = Files(**{**vars_of(self._files), "state": state})
        try:
            with controller(files, WallClock(), observe=False) as running:
                running.run(self._stop, self._told)
        except BaseException as error:  # noqa: BLE001 - the loop must not stop, whatever it is
            world.broken.append(f"the loop stopped: {type(error).__name__}: {error}")


def vars_of(files: Files) -> dict[str, Any]:
    return {name: getattr(files, name) for name in files.__slots__}


@contextmanager
def controlled(world: World, files: Files) -> Iterator[Controlled]:
    """Run a world's controller, and end it."""
    running = Controlled(world, files)
    try:
        yield running
    finally:
        running.end()


def _chaos(world: World, api: FaultyServer, metrics: FaultyServer, running: Controlled) -> None:
    """Let loads change, faults strike and controllers end, each at its time."""
    nap, engines = Event(), world.scene.engines
    weather = Weather(world.seed, world.episodes, world.since_s)
    api.rule, metrics.rule = weather.of_api, weather.of_metrics
    loads, restarts = sorted(world.loads), list(world.restarts)
    asked = dict.fromkeys(world.names, LEAST)
    while world.since_s() < CHAOS_S:
        nap.wait(0.1)
        now_s = world.since_s()
        while loads and loads[0][0] <= now_s:
            _, name, asked[name] = loads.pop(0)
        lie = next((one.kind for one in world.episodes if one.covers(now_s, {"zero", "stale"})), "")
        for name in world.names:
            engines.freeze(name, frozen=lie == "stale")
            engines.load(name, 0.0 if lie == "zero" else asked[name] * TARGET_TPS - 30.0)
        if weather.drops():
            api.drop_watches()
        if restarts and restarts[0] <= now_s:
            restarts.pop(0)
            running.restart()
    api.rule = metrics.rule = lambda _: None
    # No two services ask for less at once: that is held, as it should be.
    asked |= dict.fromkeys(world.names[:2], MOST)
    for name in world.names:
        engines.freeze(name, frozen=False)
        engines.load(name, asked[name] * TARGET_TPS - 30.0)
    world.asked = asked


def _calm(world: World, client: httpx.Client) -> None:
    """Wait until all is as the loads ask for."""
    nap, amiss, kept = Event(), ["nothing was looked at"], 0
    while world.since_s() < CHAOS_S + CALM_S and not world.broken:
        nap.wait(0.5)
        amiss = list(_amiss(world, client))
        kept = 0 if amiss else kept + 1
        if kept == _KEPT:
            world.settled_s = world.since_s()
            return
    if world.broken:
        return
    world.broken.append(f"not settled {CALM_S:g} s after the last fault: {'; '.join(amiss)}")


def _amiss(world: World, client: httpx.Client) -> Iterator[str]:
    """Yield what is not yet as the loads ask for."""
    folder = f"/apis/apps/v1/namespaces/{world.namespace}/deployments"
    found = {
        one["metadata"]["name"]: one
        for one in client.get(folder).raise_for_status().json()["items"]
    }
    for name, short in zip(world.names, SERVICES, strict=True):
        counts = {role: found[f"{short}-{role}"]["spec"]["replicas"] for role in ROLES}
        wanted = world.asked[name]
        if counts["decode"] != wanted or abs(counts["prefill"] - wanted) > 1:
            yield f"{name} has {counts}, its load asks for {wanted}"
    yield from out_of_rotation(client, world.namespace)


def out_of_rotation(client: httpx.Client, namespace: str) -> Iterator[str]:
    """Yield the pods of a namespace that serve nobody, or are about to end."""
    for pod in client.get(f"/api/v1/namespaces/{namespace}/pods").json()["items"]:
        metadata = pod["metadata"]
        notes = metadata.get("annotations") or {}
        if "deletionTimestamp" in metadata:
            yield f"{metadata['name']} is ending"
        elif ROTATION in notes or ROUTE not in metadata["labels"]:
            yield f"{metadata['name']} is out of rotation"


@contextmanager
def scene_of(seeds: Sequence[int], plane: ControlPlane, folder: Path) -> Iterator[Scene]:
    """Make room for the seeds' worlds, and one Prometheus for all of them."""
    names = [f"s{seed}-{short}" for seed in seeds for short in SERVICES]
    with (
        plane.client() as client,
        serving(*names) as engines,
        scraping(folder, engines.address, {}) as prometheus,
    ):
        for index in range(_NODES):
            made(client, "/api/v1/nodes", node(f"soak-{index}"))
        yield Scene(plane, prometheus, engines, folder)


def soaked(
    seeds: Sequence[int], at_once: int, plane: ControlPlane, folder: Path
) -> Iterator[World]:
    """Yield each seed's world when it has ended."""
    for first in range(0, len(seeds), at_once):
        some = seeds[first : first + at_once]
        place = folder / f"from-{some[0]}"
        place.mkdir()
        with scene_of(some, plane, place) as scene, ThreadPoolExecutor(at_once) as threads:
            yield from threads.map(lambda seed: run_seed(scene, seed), some)


def told(world: World) -> str:
    """Return what became of a seed, and how to see it again."""
    kinds = ",".join(one.kind for one in world.episodes)
    line = f"seed {world.seed}: {world.ticks} ticks, {world.runs} controllers, {kinds}"
    if not world.broken:
        return f"{line}: settled at {world.settled_s:.0f} s"
    again = f"make soak-cluster SOAK_ARGS='--seeds {world.seed}..{world.seed}' KILLS=0"
    return "\n  ".join([f"{line}: BROKEN", *world.broken[:6], f"again: {again}"])


def main() -> None:
    """Soak seed after seed; exit 1 where anything is broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", default="0..199", metavar="A..B")
    parser.add_argument("--at-once", type=int, default=10)
    given = parser.parse_args()
    first, _, last = given.seeds.partition("..")
    seeds = range(int(first), int(last or first) + 1)
    broken = 0
    with tempfile.TemporaryDirectory() as scratch, control_plane(Path(scratch)) as plane:
        for world in soaked(seeds, given.at_once, plane, Path(scratch)):
            broken += bool(world.broken)
            sys.stdout.write(f"{told(world)}\n")
            sys.stdout.flush()
    sys.stdout.write(f"{len(seeds)} seeds, {broken} broken\n")
    sys.exit(1 if broken else 0)


if __name__ == "__main__":
    main()
