"""One decision in words: nothing of what was seen, made of it or done is left out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from heteroscale.adapters.journal_file import JournalFolder
from heteroscale.cli import main
from heteroscale.entities.action import OutcomeKind
from heteroscale.entities.decision import Reason, Step
from heteroscale.entities.placement import Grant, NoFit, PlacementPlan, Release
from heteroscale.entities.service import Mode
from heteroscale.errors import ConfigError, JournalBroken
from heteroscale.journal.chain import sealed
from heteroscale.journal.explain import (
    Explanation,
    _placement_texts,
    _text,
    action_text,
    explanation,
    moment,
)
from heteroscale.journal.replay import Line
from tests.unit.journal.fleets import START_S, World, fleet, readings, service, world

START = "2023-11-14T22:13:20Z"


def busy_run(mode: Mode = Mode.ENFORCE) -> World:
    """Return ten ticks: calm, then busy from the fourth, then without metrics from the ninth."""
    run = world(fleet(service("chat", mode=mode), service("code")))
    for tick in range(10):
        run.metrics.readings = {
            "chat": readings(2000.0 if tick < 3 else 3600.0, age_s=4.0),
            "code": readings(2000.0),
        }
        run.metrics.down = tick >= 8
        run.tick()
    return run


def told(run: World, at_s: float, name: str = "chat") -> Explanation:
    return explanation(run.lines(), name, START_S + at_s)


def test_a_hold_kept_only_as_a_digest_is_told_with_all_its_reasons() -> None:
    run = busy_run()
    assert b'"digest":"' in run.journal.lines[2]
    said = told(run, 30.0)
    decision = run.reports[2].plan.decisions[0]
    assert (said.tick, said.at, said.mode) == (2, "2023-11-14T22:13:50Z", "enforce")
    assert (said.direction, said.capacity, said.agrees) == ("hold", decision.capacity, True)
    assert sum(len(step.texts) for step in said.steps) == len(decision.reasons)
    assert (said.actions, said.error) == ((), None)


def test_what_was_seen_is_told_as_it_was() -> None:
    run = busy_run()
    said = told(run, 40.0)
    assert said.readings == run.reports[2].snapshot.services["chat"].readings
    assert said.replicas == {"decode": {"ready": 2}, "prefill": {"ready": 2}}
    assert said.unreachable == ()


def test_what_was_done_is_told_with_the_answer_of_the_next_record() -> None:
    run = busy_run()
    acted = next(report for report in run.reports if report.sent)
    said = told(run, 15.0 * acted.tick)
    assert said.direction == "out"
    assert [one.text for one in said.actions] == [action_text(one) for one in acted.sent]
    assert all(one.sent and one.outcome == "applied" for one in said.actions)
    after = told(run, 15.0 * (acted.tick + 1))
    assert after.outcomes == tuple(f"action {one.id} applied" for one in acted.sent)


def test_what_was_not_sent_is_told_too() -> None:
    run = busy_run(Mode.OBSERVE)
    acted = next(report for report in run.reports if report.plan.actions)
    said = told(run, 15.0 * acted.tick)
    assert said.mode == "observe"
    assert {(one.sent, one.outcome) for one in said.actions} == {(False, None)}


def test_the_last_record_has_no_answer_yet() -> None:
    run = busy_run()
    acted = next(report for report in run.reports if report.sent)
    lines = run.lines()[: acted.tick + 1]
    said = explanation(lines, "chat", START_S + 15.0 * acted.tick)
    assert {(one.sent, one.outcome) for one in said.actions} == {(True, None)}


def test_missing_metrics_are_told_as_such() -> None:
    said = told(busy_run(), 135.0)
    assert said.readings == ()
    assert said.notices == (
        "metrics: MetricsUnavailable: the metrics source is switched off; every reading is missing",
    )


@pytest.mark.parametrize(
    ("name", "at_s", "path", "rule"),
    [
        ("chta", 30.0, "service", "must be one of the fleet's: chat, code"),
        ("chat", -1.0, "at", f"the journal starts at {START}"),
        ("chat", 151.0, "at", "the journal ends at 2023-11-14T22:15:35Z"),
    ],
    ids=["no such service", "before the start", "after the end"],
)
def test_what_is_not_there_is_answered_with_what_is(
    name: str, at_s: float, path: str, rule: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        told(busy_run(), at_s, name)
    assert [(one.path, one.rule) for one in caught.value.problems] == [(path, rule)]


def test_an_empty_journal_has_nothing_to_explain() -> None:
    with pytest.raises(ConfigError, match="the journal is empty"):
        explanation([], "chat", START_S)


def test_the_tick_stands_until_the_next_one() -> None:
    run = busy_run()
    assert [told(run, at_s).tick for at_s in (0.0, 14.9, 15.0, 150.0)] == [0, 0, 1, 9]


def test_a_recorded_decision_that_is_another_one_is_said_to_be() -> None:
    lines = busy_run().lines()
    record = msgspec.json.decode(lines[0].text)
    del record["hash"]
    record["services"]["chat"]["decision"]["capacity"]["decode"] = 99
    forged = Line(text=sealed(msgspec.json.encode(record))[0], where="memory")
    assert not explanation([forged], "chat", START_S).agrees


def test_a_damaged_record_on_the_way_is_an_error() -> None:
    lines = busy_run().lines()
    lines[1] = Line(text=lines[1].text.replace(b"2000.0", b"2000.1"), where="memory")
    with pytest.raises(JournalBroken, match="record 2: its hash"):
        explanation(lines, "chat", START_S + 60.0)


def test_placement_is_told_for_one_service() -> None:
    plan = PlacementPlan(
        grants=(
            Grant(
                service="chat",
                group="chat-0",
                role="decode",
                accelerator="H20",
                domain=("alpha", "s2-1"),
                subcluster="alpha",
                replicas=2,
                nodes=(("a-01",), ("a-02", "a-03")),
                price_per_hour=28.8,
            ),
            Grant(
                service="chat",
                group="chat-0",
                role="prefill",
                accelerator="H20",
                domain=(),
                subcluster="alpha",
                replicas=1,
                nodes=(("a-04",),),
            ),
        ),
        releases=(
            Release(service="chat", uids=("u1", "u2")),
            Release(service="code", uids=("u3",)),
        ),
        no_fits=(NoFit(service="chat", missing={"decode": 3}, causes={"full": 7, "cordoned": 1}),),
    )
    assert _placement_texts(plan, "chat") == (
        "2 decode on H20 granted to group chat-0 in alpha/s2-1 on a-01, a-02+a-03; 28.80 an hour",
        "1 prefill on H20 granted to group chat-0 in alpha on a-04",
        "chosen to leave: u1, u2",
        "not placed: 3 decode; nodes ruled out: 1 cordoned, 7 full",
    )
    assert _placement_texts(plan, "docs") == ()


def test_a_reason_of_another_release_is_told_by_its_code() -> None:
    reason = Reason(step=Step.GUARD, code="moon_phase", figures={"phase": 0.5, "day": 3})
    assert _text(reason) == "moon_phase (day 3, phase 0.5)"
    assert _text(Reason(step=Step.GUARD, code="moon_phase")) == "moon_phase"


def test_an_instant_is_told_in_utc() -> None:
    assert (moment(START_S), moment(0.5)) == (START, "1970-01-01T00:00:00.500000Z")


@dataclass(frozen=True)
class Done:
    """What a command printed and how it ended."""

    exit_code: object
    stdout: str
    stderr: str


def command(capsys: pytest.CaptureFixture[str], *arguments: str) -> Done:
    """Run one command of the command line."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    printed = capsys.readouterr()
    return Done(ended.value.code or 0, printed.out, printed.err)


class TestCommands:
    """`heteroscale replay` and `heteroscale explain` as an operator meets them."""

    @pytest.fixture
    def journal(self, tmp_path: Path) -> Path:
        folder = tmp_path / "journal"
        sink = JournalFolder(folder)
        for line in busy_run().journal.lines:
            sink.append(line)
        sink.close()
        return folder

    def test_replay_of_a_good_journal(
        self, journal: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        done = command(capsys, "replay", str(journal))
        assert done.exit_code == 0
        assert done.stdout.splitlines() == [
            "records      10 in 1 segments",
            "first tick   0",
            f"from         {START}",
            "to           2023-11-14T22:15:35Z",
            "plans equal  10 of 10",
            "chain        ok",
        ]

    def test_replay_of_one_file_as_json(
        self, journal: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        done = command(capsys, "replay", str(journal / "journal-000001.jsonl.gz"), "--json")
        assert msgspec.json.decode(done.stdout) == {
            "records": 10,
            "plans_equal": 10,
            "first_tick": 0,
            "start_s": START_S,
            "end_s": START_S + 135.0,
            "segments": 1,
            "notices": [],
            "fault": None,
        }

    def test_replay_of_a_changed_journal_exits_1_and_names_the_record(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        lines = busy_run().journal.lines
        lines[4] = lines[4].replace(b"3600.0", b"3601.0")
        sink = JournalFolder(tmp_path)
        for line in lines:
            sink.append(line)
        sink.close()
        done = command(capsys, "replay", str(tmp_path))
        assert done.exit_code == 1
        assert "plans equal  4 of 4" in done.stdout
        assert done.stderr == (
            "heteroscale: journal-000001.jsonl.gz: record 5: its hash does not fit its content\n"
        )

    @pytest.mark.parametrize(
        "at",
        ["+60", "1700000045", "2023-11-14T22:14:05", "2023-11-15T06:14:05+08:00"],
        ids=["since the start", "epoch", "utc by default", "another zone"],
    )
    def test_explain_tells_it_in_words(
        self, journal: Path, at: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        done = command(capsys, "explain", str(journal), "--service", "chat", "--at", at)
        assert done.exit_code == 0, done.stderr
        assert done.stdout.startswith("chat at 2023-11-14T22:14:05Z (tick 3, mode enforce)\n")
        for part in (
            "unknown: stale",
            "decode instances: 2 ready",
            "MADE OF IT",
            "decision: scale out",
            "DONE",
            "set decode on H20 of group chat-alpha in alpha from 2 to",
            "applied",
        ):
            assert part in done.stdout

    def test_explain_as_json_is_the_whole_explanation(
        self, journal: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        done = command(
            capsys, "explain", str(journal), "--service", "chat", "--at", "+60", "--json"
        )
        assert msgspec.json.decode(done.stdout, type=Explanation) == told(busy_run(), 45.0)

    @pytest.mark.parametrize(
        ("arguments", "error"),
        [
            (
                ("--service", "chta", "--at", "+15"),
                "service: must be one of the fleet's: chat, code",
            ),
            (("--service", "chat", "--at", "noon"), "--at: must be ISO 8601"),
            (("--service", "chat", "--at", "nan"), "--at: must be ISO 8601"),
            (("--service", "chat", "--at", "+inf"), "--at: must be ISO 8601"),
            (("--service", "chat", "--at", "1e400"), "--at: must be ISO 8601"),
            (("--service", "chat", "--at", "1e15"), "--at: must be ISO 8601"),
            (("--service", "chat", "--at", "+0"), "at: the journal starts at"),
            (("--service", "chat", "--at", "+1e6"), "at: the journal ends at"),
        ],
    )
    def test_a_wrong_question_is_answered_with_the_rule(
        self,
        journal: Path,
        arguments: tuple[str, ...],
        error: str,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        done = command(capsys, "explain", str(journal), *arguments)
        assert done.exit_code == 2
        assert done.stderr.startswith(error)
        assert len(done.stderr.splitlines()) == 1


def test_a_refused_action_is_told_with_its_detail() -> None:
    run = world(fleet(service("chat")))
    run.subclusters["alpha"].answer = OutcomeKind.REFUSED
    run.metrics.readings = {"chat": readings(3600.0)}
    for _ in range(3):
        run.tick()
    said = told(run, 0.0)
    assert {one.outcome for one in said.actions} == {"refused: as told"}
