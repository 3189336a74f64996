"""Compact forms of what is written for every service and tick.

A row keeps what a snapshot holds to the last bit, also where a source gave an integer for a float
or a figure JSON has no word for: NaN and the infinities are written as strings.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from operator import attrgetter

import msgspec

from heteroscale.entities.action import Action, RotationAction, ScaleAction
from heteroscale.entities.placement import PlacementPlan
from heteroscale.entities.snapshot import (
    GroupRole,
    Instance,
    InstanceState,
    Reading,
    Signal,
    UnknownCause,
)

#: a reading's figure; a string spells a float that JSON cannot
Figure = float | int | str | None
#: one figure for all readings of a service, or one each
Figures = float | int | str | tuple[float | int | str, ...]
#: signal, role, accelerator: which readings there are
SignalKey = tuple[Signal, str, str | None]

signal_key = attrgetter("signal", "role", "accelerator")
_value = attrgetter("value")
_age = attrgetter("age_s")
_coverage = attrgetter("coverage")
_cause = attrgetter("cause")
#: an instance but for its requests, which change while nothing else does
_identity = attrgetter(
    "state",
    "version",
    "since_s",
    "uid",
    "held",
    "nodes",
    "gpus",
    "role",
    "group",
    "subcluster",
    "accelerator",
    "ordinal",
    "reversible",
)
requests_of = attrgetter("requests")


class InstanceRow(msgspec.Struct, array_like=True, frozen=True):
    """An instance without its service, which is the key of the row, and without its requests."""

    uid: str
    role: str
    group: str
    subcluster: str
    accelerator: str
    ordinal: int
    state: InstanceState
    since_s: float | int
    held: bool
    nodes: tuple[str, ...]
    gpus: int | None
    version: str
    reversible: bool = True


class GroupRow(msgspec.Struct, array_like=True, frozen=True):
    """A group role without its service."""

    group: str
    role: str
    accelerator: str
    subcluster: str
    domain: tuple[str, ...]
    replicas: int
    version: str


class ServiceRow(msgspec.Struct, omit_defaults=True):
    """What one record says of one service; what is absent is as in the last record that had it."""

    signals: tuple[SignalKey, ...] | None = None
    values: tuple[Figure, ...] = ()
    #: None, as there is no reading; for coverage also where every one is complete
    ages_s: Figures | None = None
    coverage: Figures | None = None
    #: absent = no reading is unknown
    causes: tuple[UnknownCause | None, ...] | None = None
    instances: tuple[InstanceRow, ...] | None = None
    requests: tuple[int | None, ...] | None = None
    group_roles: tuple[GroupRow, ...] | None = None
    #: in place of a decision that is a hold for the same reasons as in the record before
    digest: str = ""
    decision: msgspec.Raw = msgspec.Raw()


class ActionRow(msgspec.Struct, omit_defaults=True, frozen=True):
    """Exactly one of the kinds of action."""

    scale: ScaleAction | None = None
    rotation: RotationAction | None = None


class PlanRow(msgspec.Struct, omit_defaults=True, frozen=True):
    """A plan but for its decisions, which stand with their services."""

    now_s: float
    generation: str
    #: None = nothing granted, released or declined
    placement: PlacementPlan | None = None
    actions: tuple[ActionRow, ...] = ()


def action_row(action: Action) -> ActionRow:
    """Return an action with its kind named."""
    if isinstance(action, ScaleAction):
        return ActionRow(scale=action)
    return ActionRow(rotation=action)


def action_of(row: ActionRow) -> Action:
    """Return the action a row stands for."""
    action = row.scale or row.rotation
    if action is None:
        raise ValueError("an action row names a scale or a rotation action")
    return action


def instance_row(one: Instance) -> InstanceRow:
    """Return the part of an instance that seldom changes."""
    return InstanceRow(
        one.uid,
        one.role,
        one.group,
        one.subcluster,
        one.accelerator,
        one.ordinal,
        one.state,
        one.since_s,
        one.held,
        one.nodes,
        one.gpus,
        one.version,
        one.reversible,
    )


def instance_of(row: InstanceRow, service: str, requests: int | None) -> Instance:
    """Return the instance of a row."""
    return Instance(
        uid=row.uid,
        service=service,
        role=row.role,
        group=row.group,
        subcluster=row.subcluster,
        accelerator=row.accelerator,
        ordinal=row.ordinal,
        state=row.state,
        since_s=row.since_s,
        requests=requests,
        held=row.held,
        nodes=row.nodes,
        gpus=row.gpus,
        version=row.version,
        reversible=row.reversible,
    )


def same_but_requests(one: Sequence[Instance], other: Sequence[Instance]) -> bool:
    """Return whether two lists of instances differ in nothing but the requests on them."""
    return len(one) == len(other) and all(
        a is b or _identity(a) == _identity(b) for a, b in zip(one, other, strict=True)
    )


def group_row(group: GroupRole) -> GroupRow:
    """Return a group role without its service."""
    return GroupRow(
        group.group,
        group.role,
        group.accelerator,
        group.subcluster,
        group.domain,
        group.replicas,
        group.version,
    )


def group_of(row: GroupRow, service: str) -> GroupRole:
    """Return the group role of a row."""
    return GroupRole(
        service=service,
        group=row.group,
        role=row.role,
        accelerator=row.accelerator,
        subcluster=row.subcluster,
        domain=row.domain,
        replicas=row.replicas,
        version=row.version,
    )


def write_readings(row: ServiceRow, readings: Sequence[Reading]) -> None:
    """Put the figures of a service's readings into its row, but not which readings they are."""
    if not readings:
        return
    row.values = tuple(
        value if value is None or -math.inf < value < math.inf else str(value)
        for value in map(_value, readings)
    )
    row.ages_s = _shared(tuple(map(_age, readings)))
    coverage = tuple(map(_coverage, readings))
    # 1 and True equal 1.0 and are written otherwise, so that they come back as they are
    if coverage.count(1.0) < len(coverage) or set(map(type, coverage)) != {float}:
        row.coverage = _shared(coverage)
    causes = tuple(map(_cause, readings))
    if any(causes):
        row.causes = causes


def readings_of(row: ServiceRow, signals: tuple[SignalKey, ...]) -> tuple[Reading, ...]:
    """Return the readings of a row, given which readings they are."""
    if len(row.values) != len(signals):
        raise ValueError(f"{len(row.values)} values stand for {len(signals)} readings")
    return tuple(
        Reading(
            signal=signal,
            role=role,
            value=float(value) if isinstance(value, str) else value,
            age_s=0.0 if row.ages_s is None else _one_of(row.ages_s, at),
            coverage=1.0 if row.coverage is None else _one_of(row.coverage, at),
            cause=row.causes[at] if row.causes else None,
            accelerator=accelerator,
        )
        for at, ((signal, role, accelerator), value) in enumerate(
            zip(signals, row.values, strict=True)
        )
    )


def _shared(figures: tuple[float, ...]) -> Figures:
    first = figures[0]
    if figures.count(first) == len(figures) and -math.inf < first < math.inf:
        return first
    return tuple(one if -math.inf < one < math.inf else str(one) for one in figures)


def _one_of(figures: Figures, at: int) -> float:
    one = figures[at] if isinstance(figures, tuple) else figures
    return float(one) if isinstance(one, str) else one
