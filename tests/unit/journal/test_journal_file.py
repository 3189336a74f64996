"""Segments on disk: whole, rotated, cut short, damaged, continued."""

from __future__ import annotations

import gzip
from errno import ENOSPC
from io import FileIO
from pathlib import Path
from typing import Any

import pytest

from heteroscale.adapters.journal_file import JournalFolder, JournalOptions, JournalReader
from heteroscale.errors import ConfigError, JournalBroken
from heteroscale.journal.chain import GENESIS, hash_of
from heteroscale.journal.recorder import Recorder
from heteroscale.journal.replay import replay
from heteroscale.loop import ControlLoop
from tests.unit.journal.fleets import START_S, fleet, readings, service, world

SMALL = JournalOptions(segment_bytes=6_000, segments=None)


def run(
    folder: Path, ticks: int, options: JournalOptions = SMALL, *, resume: bool = True
) -> JournalFolder:
    """Tick two services into a folder and return its sink, still open."""
    made = world(fleet(service("chat"), service("code")))
    sink = JournalFolder(folder, options, resume=resume)
    loop = ControlLoop(
        fleet(service("chat"), service("code")),
        made.clock,
        made.metrics,
        tuple(made.subclusters.values()),
        made.store,
        Recorder(sink),
    )
    for tick in range(ticks):
        load = 2000.0 + 0.37 * tick if tick % 10 else 3300.0
        made.metrics.readings = {"chat": readings(load), "code": readings(load / 3.0)}
        loop.tick()
        made.clock.advance(15.0)
    return sink


def crash(sink: JournalFolder) -> None:
    """Let go of the file without finishing the segment."""
    assert sink._file is not None
    sink._file.close()


def resumed(folder: Path) -> tuple[int, str]:
    """Return where a sink would go on."""
    with JournalFolder(folder) as sink:
        return sink.resume()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_rotated_journal_replays_as_one_and_each_segment_alone(tmp_path: Path) -> None:
    run(tmp_path, 260).close()
    reader = JournalReader(tmp_path)
    assert len(reader.segments) > 2
    report = replay(reader.lines())
    assert (report.records, report.fault, reader.notices) == (260, None, [])
    records = 0
    for path in reader.segments:
        alone = replay(JournalReader(path).lines())
        assert alone.fault is None
        records += alone.records
    assert records == 260


def test_equal_runs_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        run(tmp_path / name, 60).close()
    one, two = tmp_path / "one", tmp_path / "two"
    assert names(one) == names(two)
    assert all((one / name).read_bytes() == (two / name).read_bytes() for name in names(one))


@pytest.mark.parametrize("durable", [True, False])
def test_durability_changes_the_compression_and_not_a_line(tmp_path: Path, durable: bool) -> None:
    run(tmp_path, 20, JournalOptions(durable=durable)).close()
    with gzip.open(tmp_path / "journal-000001.jsonl.gz") as file:
        lines = file.readlines()
    assert lines == [line.text for line in JournalReader(tmp_path).lines()]
    assert len(lines) == 20


def test_only_so_many_segments_are_kept(tmp_path: Path) -> None:
    run(tmp_path, 400, JournalOptions(segment_bytes=6_000, segments=3)).close()
    reader = JournalReader(tmp_path)
    assert len(reader.segments) <= 3
    assert reader.segments[0].name != "journal-000001.jsonl.gz"
    report = replay(reader.lines())
    assert report.fault is None
    assert report.first_tick is not None
    assert report.first_tick + report.records == 400


def test_what_was_flushed_before_a_crash_can_be_read(tmp_path: Path) -> None:
    sink = run(tmp_path, 12)
    reader = JournalReader(tmp_path)
    report = replay(reader.lines())
    assert (report.records, report.fault) == (12, None)
    assert reader.notices == ["journal-000001.jsonl.gz is cut short after record 12, as by a crash"]
    sink.close()


def test_a_segment_cut_in_the_middle_keeps_its_whole_records(tmp_path: Path) -> None:
    run(tmp_path, 12).close()
    path = tmp_path / "journal-000001.jsonl.gz"
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 3 // 4])
    reader = JournalReader(tmp_path)
    report = replay(reader.lines())
    assert 0 < report.records < 12
    assert report.fault is None
    assert reader.notices == [
        f"journal-000001.jsonl.gz is cut short after record {report.records}, as by a crash"
    ]


def test_a_restart_continues_the_chain_in_a_new_segment(tmp_path: Path) -> None:
    for _ in range(2):
        crash(run(tmp_path, 5))
    reader = JournalReader(tmp_path)
    report = replay(reader.lines())
    assert (report.records, report.first_tick, report.fault) == (10, 0, None)
    assert len(reader.segments) == 2


def test_a_new_run_may_replace_the_journal(tmp_path: Path) -> None:
    run(tmp_path, 60, JournalOptions(segment_bytes=3_000)).close()
    (tmp_path / "notes.txt").write_text("keep me")
    run(tmp_path, 3, resume=False).close()
    assert names(tmp_path) == ["journal-000001.jsonl.gz", "notes.txt"]
    assert replay(JournalReader(tmp_path).lines()).records == 3


def test_a_tail_that_was_changed_is_not_continued_but_shown(tmp_path: Path) -> None:
    run(tmp_path, 3).close()
    path = tmp_path / "journal-000001.jsonl.gz"
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()).replace(b"2000.", b"2001.")))
    assert resumed(tmp_path) == (3, GENESIS)
    fault = replay(JournalReader(tmp_path).lines()).fault
    assert fault is not None
    assert fault.record in (1, 2)


def test_an_unreadable_tail_starts_the_chain_again(tmp_path: Path) -> None:
    (tmp_path / "journal-000001.jsonl.gz").write_bytes(b"not a journal")
    assert resumed(tmp_path) == (0, GENESIS)
    (tmp_path / "journal-000003.jsonl.gz").write_bytes(gzip.compress(b"no record\n"))
    assert resumed(tmp_path) == (0, GENESIS)
    assert names(tmp_path)[-1] == "journal-000004.jsonl.gz"


def test_the_next_number_and_hash_are_those_after_the_last_line(tmp_path: Path) -> None:
    run(tmp_path, 7).close()
    *_, last = JournalReader(tmp_path).lines()
    assert resumed(tmp_path) == (7, hash_of(last.text))


@pytest.mark.parametrize(
    ("spoil", "rule"),
    [
        (lambda content: content[:200] + b"\xff" * 8 + content[208:], "cannot be decompressed"),
        (lambda content: content[:-6] + b"\x00" * 6, "cannot be decompressed"),
        (lambda content: content + b"more", "is followed by bytes that are no journal"),
        (lambda _: b"plain text", "cannot be decompressed"),
    ],
    ids=["bytes in the middle", "the checksum at the end", "bytes after it", "no gzip at all"],
)
def test_bytes_that_were_never_written_are_refused(tmp_path: Path, spoil, rule: str) -> None:  # type: ignore[no-untyped-def]
    run(tmp_path, 12).close()
    path = tmp_path / "journal-000001.jsonl.gz"
    path.write_bytes(spoil(path.read_bytes()))
    fault = replay(JournalReader(tmp_path).lines()).fault
    assert isinstance(fault, JournalBroken)
    assert fault.where == path.name
    assert fault.rule.startswith(rule) or fault.rule == "its hash does not fit its content"


def test_the_segment_of_an_instant_is_found(tmp_path: Path) -> None:
    run(tmp_path, 200).close()
    reader = JournalReader(tmp_path)
    starts = [reader.start_s(index) for index in range(len(reader.segments))]
    assert starts[0] == START_S
    for index, start_s in enumerate(starts):
        assert start_s is not None
        assert reader.segment_at(start_s) == index
        assert reader.segment_at(start_s - 1.0) == max(0, index - 1)
    assert reader.segment_at(0.0) == 0


@pytest.mark.parametrize("place", ["nowhere", "."], ids=["no such folder", "an empty folder"])
def test_no_journal_is_the_operators_to_fix(tmp_path: Path, place: str) -> None:
    with pytest.raises(ConfigError, match="must be a journal"):
        JournalReader(tmp_path / place)


def test_a_folder_that_cannot_be_made_is_known_before_the_run(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be written"):
        JournalFolder(tmp_path / "file")


def test_a_line_after_close_opens_the_next_segment(tmp_path: Path) -> None:
    sink = JournalFolder(tmp_path)
    sink.append(b"{}\n")
    assert not sink.at_segment_start()
    sink.close()
    sink.close()
    assert sink.at_segment_start()
    sink.append(b"{}\n")
    sink.close()
    assert names(tmp_path) == ["journal-000001.jsonl.gz", "journal-000002.jsonl.gz"]


class FullDisk(FileIO):
    """A file that takes only so much more, and says so again when it is closed."""

    room = 0

    def close(self) -> None:
        opened = not self.closed
        super().close()
        if opened:
            raise OSError(ENOSPC, "No space left on device")

    def write(self, content: Any) -> int:
        if not self.room:
            raise OSError(ENOSPC, "No space left on device")
        taken = bytes(content)[: self.room]
        self.room -= len(taken)
        return super().write(taken)


def fill(sink: JournalFolder, room: int) -> None:
    """Let the disk under the open segment take only so many bytes more."""
    assert sink._file is not None
    sink._file.close()
    sink._file = FullDisk(str(sink._file.name), "ab")
    sink._file.room = room


@pytest.mark.parametrize(
    ("room", "segment_bytes"),
    [(0, 2**20), (40, 2**20), (2**20, 1)],
    ids=["not a byte", "half a line", "all but the end of the segment"],
)
def test_a_line_reported_lost_can_never_be_read(
    tmp_path: Path, room: int, segment_bytes: int
) -> None:
    made = world(fleet(service("chat")))
    with JournalFolder(tmp_path) as sink:
        loop = ControlLoop(
            fleet(service("chat")),
            made.clock,
            made.metrics,
            tuple(made.subclusters.values()),
            made.store,
            Recorder(sink),
        )
        for tick in range(6):
            if tick == 3:
                fill(sink, room)
                sink._options = JournalOptions(segment_bytes=segment_bytes)
            lost = loop.tick().notices
            sink._options = JournalOptions()
            assert bool(lost) == (tick == 3)
            made.clock.advance(15.0)
    report = replay(JournalReader(tmp_path).lines())
    assert (report.records, report.fault) == (5, None)


def test_a_disk_that_stays_full_pushes_out_no_segment(tmp_path: Path) -> None:
    sink = JournalFolder(tmp_path, JournalOptions(segments=2))
    for _ in range(5):
        if sink._file is None:
            sink._open()
        fill(sink, 0)
        with pytest.raises(OSError, match="No space left"):
            sink.append(b"{}\n")
    assert names(tmp_path) == []
    sink.append(b"{}\n")
    assert names(tmp_path) == ["journal-000006.jsonl.gz"]
    fill(sink, 3)
    with pytest.raises(OSError, match="No space left"):
        sink.close()
    assert [line.text for line in JournalReader(tmp_path).lines()] == [b"{}\n"]
