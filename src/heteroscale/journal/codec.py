"""Entities to deterministic JSON bytes and back, and short digests of such bytes.

Mappings are written in the order of their keys, dataclasses in the order of their fields, floats
in their shortest exact form: equal values give equal bytes on every machine.
"""

from __future__ import annotations

from hashlib import blake2b

import msgspec

from heteroscale.entities.decision import Decision
from heteroscale.entities.service import FleetSpec
from heteroscale.entities.state import FleetState
from heteroscale.entities.topology import Node

#: 64 bits: enough to notice a changed decision, short because it is kept for every unchanged hold
SHORT_BYTES = 8
#: 128 bits: nobody finds two records with the same hash
HASH_BYTES = 16

_ENCODER = msgspec.json.Encoder(order="deterministic")
_FLEET = msgspec.json.Decoder(FleetSpec)
_STATE = msgspec.json.Decoder(FleetState)


def encoded(value: object) -> bytes:
    """Return the one JSON form of an entity, record or tuple of them."""
    return _ENCODER.encode(value)


def digest(content: bytes, size: int = HASH_BYTES) -> str:
    """Return a hash in hexadecimal, `size` bytes wide."""
    return blake2b(content, digest_size=size).hexdigest()


def decision_digest(decision: Decision) -> str:
    """Return the short digest that stands for an unchanged hold."""
    return digest(_ENCODER.encode(decision), SHORT_BYTES)


def generation_of(nodes: tuple[Node, ...]) -> str:
    """Return the version of an inventory: a digest of its nodes in the order given."""
    return digest(_ENCODER.encode(nodes), SHORT_BYTES)


def settled_fleet(fleet: FleetSpec) -> FleetSpec:
    """Return the specs exactly as a record gives them back.

    A mapping built in another order, or an integer where a float is declared, must not make
    replay differ in the last digit, so the loop itself runs on what the journal can repeat.
    """
    return _FLEET.decode(_ENCODER.encode(fleet))


def settled_state(state: FleetState) -> FleetState:
    """Return the state exactly as a record gives it back; see `settled_fleet`."""
    return _STATE.decode(_ENCODER.encode(state))
