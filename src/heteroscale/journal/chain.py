"""The hash chain: every line ends with a hash over itself, and itself names the line before.

A changed figure breaks its own line's hash; a line forged with a fitting hash breaks the next one.
"""

from __future__ import annotations

from heteroscale.journal.codec import HASH_BYTES, digest

_OPEN = b',"hash":"'
_CLOSE = b'"}\n'
_HEX = 2 * HASH_BYTES
_TAIL = len(_OPEN) + _HEX + len(_CLOSE)

#: what the first line ever names as the line before
GENESIS = "0" * _HEX


def sealed(body: bytes) -> tuple[bytes, str]:
    """Return a JSON object as a line that ends with its hash, and the hash."""
    seal = digest(body)
    return body[:-1] + _OPEN + seal.encode() + _CLOSE, seal


def hash_of(line: bytes) -> str | None:
    """Return the hash a line ends with, or None when the line is not what was sealed."""
    tail = line[-_TAIL:]
    if not (tail.startswith(_OPEN) and tail.endswith(_CLOSE)):
        return None
    written = tail[len(_OPEN) : len(_OPEN) + _HEX].decode("ascii", "replace")
    return written if digest(line[:-_TAIL] + b"}") == written else None
