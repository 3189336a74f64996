"""Turns the kernel's measured rows into the values that are read from a plane."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from heteroscale.sim.kernel_counters import InstanceCounters, RoleCounters, Tally
from heteroscale.sim.kernel_state import (
    DECODE,
    G_DECODE_COUNT,
    G_PREFILL_COUNT,
    V_BUSY,
    V_CAPACITY,
    V_HOST,
    V_IN_ROTATION,
    V_INSTANCES,
    V_OUTSTANDING,
    V_RESERVED,
    V_RUNNING,
    V_TOKENS,
    V_USED,
    V_WAITING,
    Int64Array,
    State,
)


class InstanceColumns(NamedTuple):
    """Several instances, an entry each; the fields mean what they mean in `RoleCounters`."""

    tokens: Int64Array
    busy_ps: Int64Array
    kv_reserved_tokens: Int64Array
    kv_capacity_tokens: Int64Array


def tally(scalars: Sequence[int], column: int) -> Tally:
    """Return requests and tokens that three columns of the scalars count, from one on."""
    requests, inputs, outputs = scalars[column : column + 3]
    return Tally(requests=requests, input_tokens=inputs, output_tokens=outputs)


def instance_counters(reading: Int64Array) -> InstanceCounters:
    """Return one measured row."""
    row = reading.tolist()
    return InstanceCounters(
        tokens=row[V_TOKENS],
        busy_ps=row[V_BUSY],
        host_ps=row[V_HOST],
        waiting=row[V_WAITING],
        running=row[V_RUNNING],
        outstanding=row[V_OUTSTANDING],
        kv_reserved_tokens=row[V_RESERVED],
        kv_used_tokens=row[V_USED],
        kv_capacity_tokens=row[V_CAPACITY],
    )


def instance_columns(readings: Int64Array) -> InstanceColumns:
    """Return some measured rows."""
    return InstanceColumns(
        tokens=readings[:, V_TOKENS],
        busy_ps=readings[:, V_BUSY],
        kv_reserved_tokens=readings[:, V_RESERVED],
        kv_capacity_tokens=readings[:, V_CAPACITY],
    )


def role_counters(state: State, stage: int, name: str, retired: Int64Array) -> RoleCounters:
    """Return a measured role.

    Args:
        retired: what its removed instances had done: (tokens, busy, host).
    """
    total = state.totals[stage].tolist()
    queue = G_DECODE_COUNT if stage == DECODE else G_PREFILL_COUNT
    tokens, busy, host = retired.tolist()
    return RoleCounters(
        role=name,
        tokens=tokens + total[V_TOKENS],
        busy_ps=busy + total[V_BUSY],
        host_ps=host + total[V_HOST],
        waiting=total[V_WAITING] + int(state.scalars[queue]),
        running=total[V_RUNNING],
        in_rotation=total[V_IN_ROTATION],
        instances=total[V_INSTANCES],
        kv_reserved_tokens=total[V_RESERVED],
        kv_used_tokens=total[V_USED],
        kv_capacity_tokens=total[V_CAPACITY],
    )
