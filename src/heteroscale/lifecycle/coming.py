"""What of a service is on its way beyond what shows, and what that shows will not come."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from heteroscale.entities.service import RolePath, ServiceSpec
from heteroscale.entities.snapshot import Instance
from heteroscale.entities.state import ServiceState
from heteroscale.lifecycle.rotation import unplaced, worth_by_role


@dataclass(frozen=True, slots=True, kw_only=True)
class Coming:
    """Differences from what the snapshot shows to be coming, and where nothing may be added."""

    #: leaf role → capacity units: growth not seen yet, less what gets no node
    units: Mapping[RolePath, float] = field(default_factory=dict)
    #: (sub-cluster, group) whose counts are not known, or that has no node to give
    closed: frozenset[tuple[str, str]] = frozenset()


#: Most services at most times.
AS_SEEN = Coming()


def coming(
    spec: ServiceSpec,
    state: ServiceState,
    moving: Iterable[Instance],
    blocked: Collection[str],
    now_s: float,
) -> Coming:
    """Return what differs from what shows, by what was sent and by what waits for too long.

    Args:
        moving: instances that are not simply in rotation.
        blocked: uids that may not be touched.
    """
    late = [one for one in unplaced(spec, moving, now_s) if one.uid not in blocked]
    if not (late or state.pending):
        return AS_SEEN
    worth = spec.group.worth()
    units = {role: -lost for role, lost in worth_by_role(spec, late).items()}
    closed = {(one.subcluster, one.group) for one in late}
    for sent in state.pending:
        if sent.role is not None:
            more = sent.added * worth.get((sent.role, sent.accelerator), 0.0)
            units[sent.role] = units.get(sent.role, 0.0) + more
            closed.add((sent.subcluster, sent.group))
    return Coming(units=units, closed=frozenset(closed))
