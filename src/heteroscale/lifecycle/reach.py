"""Sub-clusters that cannot be observed: their instances are supply, frozen as last seen.

One that has not been observed at all, as after a restart, may hold anything: a service that seems
to have lost what it had is then taken to have it there, not built a second time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable

from heteroscale.entities.action import group_role_key
from heteroscale.entities.decision import Reason, Step
from heteroscale.entities.reasons import ReasonCode
from heteroscale.entities.snapshot import GroupRole, ServiceSnapshot, Snapshot
from heteroscale.entities.state import ServiceState

#: What is missing for longer, while a sub-cluster has never been seen, is taken as lost: half an
#: hour outlasts a restart of what is observed, and a service is not left small for ever.
HIDDEN_MAX_S = 1800.0


def out_of_reach(
    snapshot: ServiceSnapshot, unreachable: Collection[str]
) -> tuple[frozenset[str], tuple[Reason, ...]]:
    """Return what of a service cannot be touched (instances and counts), and a reason for each
    sub-cluster that holds any of it.
    """
    away = [one for one in snapshot.instances if one.subcluster in unreachable]
    counts = [count for count in snapshot.group_roles if count.subcluster in unreachable]
    targets = {one.uid for one in away}
    targets |= {
        group_role_key(count.subcluster, count.group, count.role, count.accelerator)
        for count in counts
    }
    replicas = Counter({count.subcluster: 0 for count in counts})
    replicas.update(one.subcluster for one in away)
    reasons = tuple(
        Reason(
            step=Step.ACT,
            code=ReasonCode.OUT_OF_REACH,
            figures={"subcluster": subcluster, "replicas": replicas[subcluster]},
        )
        for subcluster in sorted(replicas)
    )
    return frozenset(targets), reasons


def never_seen(snapshot: Snapshot) -> tuple[str, ...]:
    """Return the sub-clusters of which not even the nodes are known."""
    if not snapshot.unreachable:
        return ()
    seen = {name for node in snapshot.inventory.nodes for name in node.domain[:1]}
    return tuple(name for name in snapshot.unreachable if name not in seen)


def hidden(
    state: ServiceState, counts: Iterable[GroupRole], unseen: Collection[str]
) -> tuple[Reason, ...]:
    """Return why a service's counts are not believed to be all it has; () = they are.

    Args:
        unseen: sub-clusters that have not been observed at all.
    """
    if not unseen:
        return ()
    seen: Counter[str] = Counter()
    for count in counts:
        seen[count.role] += count.replicas
    before = state.replicas_seen
    # Without a memory of counts, some of them are some, and none of them is no knowledge.
    lost = any(seen[role] < before[role] for role in before) if before else not seen
    if not lost:
        return ()
    figures = {"subclusters": ", ".join(sorted(unseen))}
    return (Reason(step=Step.ACT, code=ReasonCode.NEVER_SEEN, figures=figures),)
