"""Executable changes and what became of them.

An action is absolute and conditional on its own target only: applied twice it has the effect of
once, applied late it is refused as stale.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, fields
from enum import StrEnum

from heteroscale.entities.topology import DomainPath


class Effect(StrEnum):
    """What an applied action means for the waits of its service."""

    #: capacity was added: both waits start
    OUT = "out"
    #: capacity left rotation, or was called off before it came: the scale-in wait starts
    IN = "in"
    #: withdrawn capacity came back: the scale-in wait starts, longer with each restore in a row
    RESTORE = "restore"
    #: the end of something begun before (drain, terminate, gate): no wait starts
    UPKEEP = "upkeep"


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaleAction:
    """Set the count of one role of one group on one accelerator."""

    #: digest of everything below
    id: str
    service: str
    subcluster: str
    group: str
    role: str
    accelerator: str
    domain: DomainPath
    replicas: int
    #: precondition: the count and version the plan was made from; "" = it must not exist yet
    expected_replicas: int
    version: str
    #: instances that must be the ones to go when the count falls
    remove: tuple[str, ...] = ()
    effect: Effect = Effect.UPKEEP
    #: GPUs that a scale-in gives back in the end, for the fleet's hourly limit; else 0
    gpus: int = 0


class Rotation(StrEnum):
    """Where an instance should stand in rotation."""

    READY = "ready"
    HELD = "held"
    WITHDRAWN = "withdrawn"
    DRAINING = "draining"


@dataclass(frozen=True, slots=True, kw_only=True)
class RotationAction:
    """Move one instance in or out of rotation; the instance keeps running."""

    id: str
    service: str
    subcluster: str
    uid: str
    to: Rotation
    #: precondition: the instance is still at this version
    version: str
    effect: Effect = Effect.UPKEEP
    #: GPUs that a scale-in gives back in the end, or a restore brings back, for the fleet's
    #: hourly limit; else 0
    gpus: int = 0


Action = ScaleAction | RotationAction


def action_id(action: Action) -> str:
    """Return the digest of everything in an action but its id: equal content, equal id."""
    content = [getattr(action, field.name) for field in fields(action) if field.name != "id"]
    text = json.dumps([type(action).__name__, *content], separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def group_role_key(subcluster: str, group: str, role: str, accelerator: str) -> str:
    """Return the name of one count inside its service, as `PendingAction.targets` holds it."""
    return f"{subcluster}|{group}|{role}|{accelerator}"


def target_of(action: Action) -> str:
    """Return what an action changes: a count's key or an instance's uid."""
    if isinstance(action, RotationAction):
        return action.uid
    return group_role_key(action.subcluster, action.group, action.role, action.accelerator)


class OutcomeKind(StrEnum):
    """What became of an action."""

    APPLIED = "applied"
    #: the precondition no longer held; nothing was changed
    STALE = "stale"
    #: the sub-cluster said no; nothing was changed
    REFUSED = "refused"
    #: it may or may not have happened; the target is blocked until observed
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The answer to one action."""

    action_id: str
    service: str
    kind: OutcomeKind
    #: when it was applied or answered, epoch seconds
    at_s: float
    detail: str = ""
