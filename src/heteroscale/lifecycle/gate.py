"""Readiness gate: newcomers of a role that runs ahead of its group's ratio wait outside.

Start-up times differ; a group with nine prefill and one decode instance in rotation would only
flood the one. The gate holds registration of newcomers, never the first of a role, never what is
in rotation or cannot be kept out of it, and never for a partner that cannot come or beyond
`gate_timeout_s`.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from heteroscale.entities.policy import LifecycleSpec
from heteroscale.entities.service import UNIT_SLACK, RolePath, ServiceSpec
from heteroscale.entities.snapshot import GroupRole, Instance, InstanceState

#: States of a newcomer that is on its way into rotation.
_NEWCOMERS = frozenset({InstanceState.STARTING, InstanceState.HELD})
#: States that do not make up for a replica that has yet to appear: they are on their way out.
_THERE = frozenset(InstanceState) - {InstanceState.PENDING, InstanceState.TERMINATED}


class Verdict(StrEnum):
    """Where a newcomer stands with the gate."""

    ADMITTED = "admitted"
    #: its role is further ahead of the ratio than the band allows
    AHEAD = "ahead"
    TIMED_OUT = "timed_out"
    #: what it would wait for cannot come
    PARTNER_CANNOT_COME = "partner_cannot_come"


#: (is it held now, verdict) → whether it should be held after this tick; None = leave it
TRANSITIONS: Mapping[tuple[bool, Verdict], bool | None] = {
    (False, Verdict.ADMITTED): None,
    (False, Verdict.AHEAD): True,
    (False, Verdict.TIMED_OUT): None,
    (False, Verdict.PARTNER_CANNOT_COME): None,
    (True, Verdict.ADMITTED): False,
    (True, Verdict.AHEAD): None,
    (True, Verdict.TIMED_OUT): False,
    (True, Verdict.PARTNER_CANNOT_COME): False,
}


@dataclass(frozen=True, slots=True)
class Passage:
    """One newcomer's change at the gate, and why."""

    instance: Instance
    #: True = hold its registration, False = release it
    hold: bool
    verdict: Verdict


@dataclass(slots=True)
class _Role:
    """One role of one group at the gate, in capacity units."""

    weight: float
    #: in rotation
    ready: float = 0.0
    #: in rotation or waiting at the gate: how far the role has come
    up: float = 0.0
    #: newcomers with their worth
    newcomers: list[tuple[Instance, float]] = field(default_factory=list)
    #: replicas asked for, less the instances that are there
    unseen: int = 0


def gate(
    spec: ServiceSpec,
    weights: Mapping[RolePath, float],
    instances: Sequence[Instance],
    group_roles: Iterable[GroupRole],
    no_fit: Collection[RolePath],
    now_s: float,
) -> tuple[Passage, ...]:
    """Return which newcomers to hold and which to release, group by group in name order.

    Args:
        weights: leaf role → its part in one unit of the group, by the ratio in force.
        no_fit: leaf roles that could not be placed in this cycle.
    """
    groups = _groups(spec, weights, instances, group_roles)
    passages: list[Passage] = []
    for key in sorted(groups):
        roles = groups[key]
        for path in sorted(roles):
            passages += _at_gate(spec.lifecycle, roles, path, no_fit, now_s)
    return tuple(passages)


def _groups(
    spec: ServiceSpec,
    weights: Mapping[RolePath, float],
    instances: Sequence[Instance],
    group_roles: Iterable[GroupRole],
) -> dict[tuple[str, str], dict[RolePath, _Role]]:
    """Return (group, sub-cluster) → role → what is ready and coming, for groups with newcomers."""
    worth = spec.group.worth()
    keys = {(one.group, one.subcluster) for one in instances if one.state in _NEWCOMERS}
    groups = {key: {path: _Role(weight) for path, weight in weights.items()} for key in keys}
    for count in group_roles:
        roles = groups.get((count.group, count.subcluster))
        if roles is not None and count.role in weights:
            roles[count.role].unseen += count.replicas
    for one in instances:
        roles = groups.get((one.group, one.subcluster))
        if roles is None or one.role not in weights:
            continue
        role = roles[one.role]
        units = worth.get((one.role, one.accelerator), 0.0)
        role.unseen -= one.state in _THERE
        if one.state is InstanceState.READY:
            role.ready += units
            role.up += units
        elif one.state in _NEWCOMERS:
            role.newcomers.append((one, units))
            role.up += units if one.state is InstanceState.HELD else 0.0
    return groups


def _at_gate(
    spec: LifecycleSpec,
    roles: Mapping[RolePath, _Role],
    path: RolePath,
    no_fit: Collection[RolePath],
    now_s: float,
) -> list[Passage]:
    role = roles[path]
    partners = [other for name, other in sorted(roles.items()) if name != path]
    coming = [
        other
        for name, other in sorted(roles.items())
        if name != path and (other.newcomers or (other.unseen > 0 and name not in no_fit))
    ]
    allowed = _allowed(spec, role, partners)
    excused = _allowed(spec, role, coming)
    inside = role.ready
    passages: list[Passage] = []
    for newcomer, units in sorted(role.newcomers, key=lambda entry: _order(entry[0])):
        if not newcomer.reversible or inside <= 0 or inside + units <= allowed + UNIT_SLACK:
            verdict = Verdict.ADMITTED
        elif inside + units <= excused + UNIT_SLACK:
            verdict = Verdict.PARTNER_CANNOT_COME
        else:
            verdict = _patience(spec, newcomer, now_s)
        if verdict is not Verdict.AHEAD:
            inside += units
        hold = TRANSITIONS[newcomer.held or newcomer.state is InstanceState.HELD, verdict]
        if hold is not None:
            passages.append(Passage(newcomer, hold, verdict))
    return passages


def _allowed(spec: LifecycleSpec, role: _Role, partners: Sequence[_Role]) -> float:
    """Return the capacity the role may have in rotation: its exact share by the partner that is
    furthest behind, plus the band or one unit, whichever is wider; no partner = no limit.
    """
    behind = min((other.up / other.weight for other in partners), default=None)
    if behind is None:
        return math.inf
    exact = behind * role.weight
    return max(exact * (1.0 + spec.gate_band), exact + 1.0)


def _patience(spec: LifecycleSpec, newcomer: Instance, now_s: float) -> Verdict:
    """Return whether a newcomer that runs ahead has waited at the gate long enough."""
    held = newcomer.state is InstanceState.HELD
    timed_out = held and now_s - newcomer.since_s >= spec.gate_timeout_s
    return Verdict.TIMED_OUT if timed_out else Verdict.AHEAD


def _order(instance: Instance) -> tuple[bool, float, int, str]:
    """Order newcomers: those that wait at the gate before those that still start."""
    return (
        instance.state is not InstanceState.HELD,
        instance.since_s,
        instance.ordinal,
        instance.uid,
    )
