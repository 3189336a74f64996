"""The YAML that the guides show, block by block."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

GUIDES = Path(__file__).resolve().parent.parent / "docs" / "guides"
_BLOCK = re.compile(r"^```yaml\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """One block of YAML; a comment in its first line names the file that it is."""

    guide: str
    #: of the block's first line in the guide
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.guide}:{self.line}"

    @property
    def file(self) -> str:
        """Return the name of the file that it is; "" = objects to apply."""
        named = re.match(r"# (\S+\.yaml)\n", self.text)
        return named[1] if named else ""

    @property
    def objects(self) -> list[dict[str, Any]]:
        """Return the documents in it."""
        return list(yaml.safe_load_all(self.text))


@cache
def blocks() -> tuple[Block, ...]:
    """Return every block of every guide."""
    return tuple(
        Block(guide.name, text[: found.start()].count("\n") + 2, found[1])
        for guide in sorted(GUIDES.glob("*.md"))
        for text in (guide.read_text(encoding="utf-8"),)
        for found in _BLOCK.finditer(text)
    )


def objects(kind: str = "") -> list[Any]:
    """Return (block, object) of what is applied, of one kind or of all."""
    found = ((one, item) for one in blocks() if not one.file for item in one.objects)
    return [(one, item) for one, item in found if kind in ("", item["kind"])]
