"""The journal as a folder of compressed segments, `journal-000001.jsonl.gz` and on.

Each segment is one gzip member without name or time, so equal runs give equal bytes. A crash cuts
the last segment short; what was flushed before it can still be read.
"""

from __future__ import annotations

import os
import zlib
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

import msgspec

from heteroscale.errors import ConfigError, JournalBroken, Problem
from heteroscale.journal.chain import GENESIS, hash_of
from heteroscale.journal.replay import Line

_NAME = "journal-{:06d}.jsonl.gz"
_PATTERN = "journal-*.jsonl.gz"
#: zlib's window bits for a gzip header and trailer
_GZIP = 31
_READ_BYTES = 1 << 20
#: fast: a tick of a thousand services must be compressed while the loop waits
_LEVEL = 1
#: where nothing has to be durable, lines are compressed this many bytes at a time
_PACK_BYTES = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalOptions:
    """How much evidence is kept, and how safely."""

    #: a segment that has grown past this is closed
    segment_bytes: int = 64 * 2**20
    #: the oldest segments beyond this many are removed; None = all are kept
    segments: int | None = 96
    #: every record reaches the operating system before anything acts on it
    durable: bool = True


class _Peek(msgspec.Struct):
    tick: int
    now_s: float


_PEEK = msgspec.json.Decoder(_Peek)


class JournalFolder:
    """A sink that writes segments; close it (or use `with`), or the last one stays unfinished."""

    def __init__(
        self, folder: Path, options: JournalOptions | None = None, *, resume: bool = True
    ) -> None:
        """Continue the folder's chain, or without `resume` start anew in its place.

        Raises:
            ConfigError: the folder cannot be made or written.
        """
        self._folder = folder
        self._options = options or JournalOptions()
        self._file: FileIO | None = None
        self._deflate = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP)
        #: kept, and not compressed yet
        self._lines = bytearray()
        self._written = 0
        try:
            folder.mkdir(parents=True, exist_ok=True)
            there = _segments(folder)
            if not resume:
                for path in there:
                    path.unlink()
                there = ()
            self._next = _number(there[-1]) + 1 if there else 1
            self._tail = _tail(there)
            # made now, so that a folder that cannot be written is known before the run
            self._open()
        except OSError as error:
            raise _refused(folder, f"cannot be written: {error.strerror}") from error
        self._fresh = True

    def __enter__(self) -> JournalFolder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def resume(self) -> tuple[int, str]:
        """Return the number of the next tick and the hash of the last line that can be read."""
        return self._tail

    def at_segment_start(self) -> bool:
        """Return whether the next line opens a segment."""
        return self._fresh

    def append(self, line: bytes) -> None:
        """Keep one line."""
        kept = 0
        try:
            file = self._file or self._open()
            kept = self._written
            self._lines += line
            if self._options.durable:
                self._pack(file)
                self._write(file, self._deflate.flush(zlib.Z_SYNC_FLUSH))
            elif len(self._lines) >= _PACK_BYTES:
                self._pack(file)
            self._fresh = False
            if self._written >= self._options.segment_bytes:
                self._finish(file)
        except OSError:
            self._abandon(kept)
            raise
        if self._file is None:
            self._drop_old()

    def close(self) -> None:
        """Finish the segment; a later line opens the next one."""
        if self._file is None:
            return
        kept = self._written
        try:
            self._finish(self._file)
        except OSError:
            self._abandon(kept)
            raise

    def _finish(self, file: FileIO) -> None:
        self._pack(file)
        self._write(file, self._deflate.flush())
        file.close()
        self._file = None
        self._fresh = True

    def _open(self) -> FileIO:
        # unbuffered: what could not be written must not be written later behind our back
        path = self._folder / _NAME.format(self._next)
        file = self._file = path.open("xb", buffering=0)
        self._next += 1
        self._deflate = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP)
        self._lines.clear()
        self._written = 0
        return file

    def _pack(self, file: FileIO) -> None:
        self._write(file, self._deflate.compress(self._lines))
        self._lines.clear()

    def _write(self, file: FileIO, content: bytes) -> None:
        rest = memoryview(content)
        while rest:
            rest = rest[file.write(rest) :]
        self._written += len(content)

    def _drop_old(self) -> None:
        """Remove the oldest; one that cannot be removed costs space, not the line just kept."""
        if self._options.segments is not None:
            # the segment to come counts too
            for path in _segments(self._folder)[: 1 - self._options.segments or None]:
                with suppress(OSError):
                    path.unlink()

    def _abandon(self, kept: int) -> None:
        """Leave the segment with the bytes that were kept: they can be read, a lost line cannot.

        The next line opens another segment; one without a line would only push out an old one.
        """
        file, self._file = self._file, None
        self._fresh = True
        if file is None:
            return
        with suppress(OSError):
            file.close()
        with suppress(OSError):
            path = Path(file.name)
            if kept:
                os.truncate(path, kept)
            else:
                path.unlink()


class JournalReader:
    """Reads a folder of segments, or one of them."""

    def __init__(self, path: Path) -> None:
        """Find the segments.

        Raises:
            ConfigError: there is none at that path.
        """
        self.segments: tuple[Path, ...] = (path,) if path.is_file() else _segments(path)
        if not self.segments:
            raise _refused(
                path, "must be a journal: a folder with journal-*.jsonl.gz, or one of them"
            )
        #: what was tolerated, in words; complete once all lines were read
        self.notices: list[str] = []

    def lines(self, first: int = 0) -> Iterator[Line]:
        """Yield every complete line from the given segment on.

        Raises:
            JournalBroken: bytes that are not what was compressed.
            ConfigError: a segment cannot be read.
        """
        number = 0
        for path in self.segments[first:]:
            for text in self._texts(path, number):
                number += 1
                yield Line(text=text, where=path.name)

    def start_s(self, segment: int = 0) -> float | None:
        """Return the time of a segment's first record; None when it has none that can be read."""
        for line in self.lines(segment):
            if line.where != self.segments[segment].name:
                return None
            try:
                return _PEEK.decode(line.text).now_s
            except msgspec.DecodeError as error:
                raise JournalBroken(record=1, where=line.where, rule=str(error)) from error
        return None

    def segment_at(self, at_s: float) -> int:
        """Return the last segment that starts at or before an instant; the first when none does."""
        found = 0
        for index in range(1, len(self.segments)):
            start_s = self.start_s(index)
            if start_s is not None and start_s > at_s:
                break
            if start_s is not None:
                found = index
        return found

    def _texts(self, path: Path, number: int) -> Iterator[bytes]:
        inflate = zlib.decompressobj(_GZIP)
        rest = b""
        try:
            with path.open("rb") as file:
                while chunk := file.read(_READ_BYTES):
                    texts, rest = _split(rest + inflate.decompress(chunk))
                    for text in texts:
                        number += 1
                        yield text
        except zlib.error as error:
            raise JournalBroken(
                record=number + 1, where=path.name, rule=f"cannot be decompressed: {error}"
            ) from error
        except OSError as error:
            raise _refused(path, f"cannot be read: {error.strerror}") from error
        if inflate.unused_data:
            raise JournalBroken(
                record=number, where=path.name, rule="is followed by bytes that are no journal"
            )
        if not inflate.eof or rest:
            self.notices.append(f"{path.name} is cut short after record {number}, as by a crash")


def _split(content: bytes) -> tuple[list[bytes], bytes]:
    *texts, rest = content.split(b"\n")
    return [text + b"\n" for text in texts], rest


def _segments(folder: Path) -> tuple[Path, ...]:
    found = sorted(folder.glob(_PATTERN), key=lambda path: (len(path.name), path.name))
    return tuple(path for path in found if _number(path))


def _number(path: Path) -> int:
    digits = path.name.removeprefix("journal-").removesuffix(".jsonl.gz")
    return int(digits) if digits.isdecimal() else 0


def _tail(segments: Sequence[Path]) -> tuple[int, str]:
    """Return the next tick's number and the hash of the last line that can be read.

    A chain that cannot be continued starts again; replay will say so at that place.
    """
    for path in reversed(segments):
        last: deque[Line] = deque(maxlen=1)
        with suppress(JournalBroken):
            last.extend(JournalReader(path).lines())
        if last:
            try:
                return _PEEK.decode(last[0].text).tick + 1, hash_of(last[0].text) or GENESIS
            except msgspec.DecodeError:
                return 0, GENESIS
    return 0, GENESIS


def _refused(path: Path, rule: str) -> ConfigError:
    return ConfigError([Problem(path="journal", rule=rule, file=str(path))])
