"""The twin's prefix cache: blocks in an ordered dictionary, the least recently used first."""

from __future__ import annotations

from collections import OrderedDict


class TwinCache:
    def __init__(self, capacity_tokens: int, block_tokens: int) -> None:
        self.capacity = capacity_tokens // block_tokens
        self.block_tokens = block_tokens
        self.kept: OrderedDict[int, None] = OrderedDict()

    def whole(self, inputs: int, blocks: tuple[int, ...]) -> tuple[int, ...]:
        return blocks[: inputs // self.block_tokens]

    def found(self, inputs: int, blocks: tuple[int, ...]) -> int:
        """Return the tokens of a prompt that need not be computed."""
        tokens = 0
        for block in self.whole(inputs, blocks):
            if block not in self.kept:
                break
            tokens += self.block_tokens
        return min(tokens, inputs - 1)

    def keep(self, inputs: int, blocks: tuple[int, ...]) -> None:
        """Let a prompt's blocks be used, the last one first."""
        for block in reversed(self.whole(inputs, blocks)):
            self.kept[block] = None
            self.kept.move_to_end(block)
            if len(self.kept) > self.capacity:
                self.kept.popitem(last=False)
