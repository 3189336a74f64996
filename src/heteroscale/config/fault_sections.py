"""What goes wrong in a simulated run, and when: one entry per fault, with the keys of its kind."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from heteroscale.config.fields import Count, Name, NonNegative, Section, Text, need, optional
from heteroscale.config.view import Fault, View


class FaultKind(StrEnum):
    """A way in which the simulated world misbehaves."""

    #: engines die; their instances are failed until someone removes them
    INSTANCE_LOSS = "instance_loss"
    #: engines die and start again in place, with counters from zero
    INSTANCE_RESTART = "instance_restart"
    #: nodes are unhealthy for a while, and every instance on them has failed
    NODE_LOSS = "node_loss"
    #: the loop cannot reach a sub-cluster, whose engines go on
    SUBCLUSTER_UNREACHABLE = "subcluster_unreachable"
    #: the loop cannot reach a sub-cluster, and everything in it has failed
    SUBCLUSTER_LOSS = "subcluster_loss"
    #: scrapes fail
    METRICS_BLACKOUT = "metrics_blackout"
    #: every signal reads 0, fresh and fully covered
    ZERO_METRICS = "zero_metrics"
    #: observing works, sending does not
    UNSENT_ACTIONS = "unsent_actions"
    #: actions arrive after their deadline
    LATE_ACTIONS = "late_actions"
    #: actions arrive twice
    REPEATED_ACTIONS = "repeated_actions"
    #: actions never arrive, and nobody learns of that
    LOST_ACTIONS = "lost_actions"
    #: actions are carried out, and nobody learns of it
    LOST_ANSWERS = "lost_answers"
    #: new instances take longer to start
    SLOW_STARTS = "slow_starts"
    #: the controller's clock jumps
    CLOCK_JUMP = "clock_jump"


#: faults between the loop and a sub-cluster's hands
ACTION_FAULTS = frozenset(
    {
        FaultKind.UNSENT_ACTIONS,
        FaultKind.LATE_ACTIONS,
        FaultKind.REPEATED_ACTIONS,
        FaultKind.LOST_ACTIONS,
        FaultKind.LOST_ANSWERS,
    }
)

_LASTING = ("duration_s",)
#: kind → keys beside at_s and kind that it must have, and that it may have
KEYS: Mapping[FaultKind, tuple[tuple[str, ...], tuple[str, ...]]] = {
    FaultKind.INSTANCE_LOSS: ((), ("count", "role", "service", "subcluster")),
    FaultKind.INSTANCE_RESTART: ((), ("count", "role", "service", "subcluster")),
    FaultKind.NODE_LOSS: (_LASTING, ("count", "subcluster")),
    FaultKind.SUBCLUSTER_UNREACHABLE: (_LASTING, ("subcluster",)),
    FaultKind.SUBCLUSTER_LOSS: (_LASTING, ("subcluster",)),
    FaultKind.METRICS_BLACKOUT: (_LASTING, ()),
    FaultKind.ZERO_METRICS: (_LASTING, ()),
    FaultKind.UNSENT_ACTIONS: (_LASTING, ("every", "subcluster")),
    FaultKind.LATE_ACTIONS: ((*_LASTING, "delay_s"), ("every", "subcluster")),
    FaultKind.REPEATED_ACTIONS: (_LASTING, ("delay_s", "every", "subcluster")),
    FaultKind.LOST_ACTIONS: (_LASTING, ("every", "subcluster")),
    FaultKind.LOST_ANSWERS: (_LASTING, ("every", "subcluster")),
    FaultKind.SLOW_STARTS: ((*_LASTING, "factor"), ("subcluster",)),
    FaultKind.CLOCK_JUMP: (("by_s",), ()),
}
_OPTIONS = (
    "by_s",
    "count",
    "delay_s",
    "duration_s",
    "every",
    "factor",
    "role",
    "service",
    "subcluster",
)


class FaultSection(Section):
    """One fault. Which keys it has beside `at_s` and `kind` depends on the kind."""

    at_s: NonNegative = need("when it begins, after the start of the run")
    kind: Annotated[FaultKind, Field(strict=False)] = need("what goes wrong")
    duration_s: NonNegative = optional(0.0, "how long it lasts")
    subcluster: Name | None = optional(None, "where; null = drawn")
    service: Name | None = optional(None, "service it strikes; null = any")
    role: Text | None = optional(None, "leaf role it strikes; null = any")
    count: Count = optional(1, "instances or nodes it strikes, drawn among those there are")
    every: Count = optional(1, "only every n-th batch of actions meets it")
    delay_s: NonNegative = optional(0.0, "how long after the sending actions arrive")
    factor: Annotated[float, Field(ge=1)] = optional(1.0, "times the start-up time")
    by_s: float = optional(0.0, "how far the clock jumps; negative = back")


class FaultsFile(Section):
    """A file of faults, as `heteroscale simulate --faults` takes it."""

    faults: tuple[FaultSection, ...] = need("what goes wrong, in any order")


def fault_rules(
    faults: View, roles: Mapping[str, tuple[str, ...]], subclusters: tuple[str, ...]
) -> Iterator[Fault]:
    """Yield what is wrong between the keys of each fault, and names that do not exist.

    Args:
        roles: service → its leaf roles; empty = unknown.
        subclusters: of the scenario's nodes; empty = unknown.
    """
    for fault in faults.items():
        yield from _key_rules(fault)
        service = fault.at("service").text()
        every_role = tuple(dict.fromkeys(role for of_one in roles.values() for role in of_one))
        for key, known in (
            ("service", tuple(roles)),
            ("role", every_role if service is None else roles.get(service, ())),
            ("subcluster", subclusters),
        ):
            name = fault.at(key).text()
            if known and name is not None and name not in known:
                yield Fault(view=fault.at(key), rule=f"must be one of {', '.join(known)}")


def _key_rules(fault: View) -> Iterator[Fault]:
    kind = fault.at("kind").text()
    if kind is None or kind not in list(FaultKind):
        return
    needed, allowed = KEYS[FaultKind(kind)]
    for key in needed:
        if not fault.at(key).written:
            yield Fault(view=fault.at(key), rule=f"is required with kind {kind}", shown=False)
    for key in _OPTIONS:
        if fault.at(key).written and key not in (*needed, *allowed):
            yield Fault(view=fault.at(key), rule=f"has no meaning with kind {kind}", shown=False)
