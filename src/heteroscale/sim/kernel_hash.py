"""Mixes bits, for picks that look random and for places in hash tables."""

from __future__ import annotations

from heteroscale.sim.jit import inlined

LOW = 0xFFFFFFFF
# Odd factors below 2^31, so that a product with 32 bits stays inside int64.
FIRST_FACTOR = 0x7FEB352D
SECOND_FACTOR = 0x31848BAB


@inlined
def mixed(bits: int) -> int:
    """Return 32 bits in which each of 32 given bits flips about half: shifts and multiplications.

    Ours: the scheme of the well-known finalizers of 32-bit hashes, with smaller factors.
    """
    bits ^= bits >> 16
    bits = (bits * FIRST_FACTOR) & LOW
    bits ^= bits >> 15
    bits = (bits * SECOND_FACTOR) & LOW
    return bits ^ (bits >> 16)
