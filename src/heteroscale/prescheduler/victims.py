"""Which instances leave when capacity is taken away: in steps that leave every group whole.

1. groups that only wait for their nodes leave first: they give up nothing
2. groups in their ratio that are within the removal leave whole, those on scarce subgroups first
3. one step of the removal at a time, from the group on the scarcest subgroup that can give all
   of it, then the fullest
4. where none can, a group that is within the removal leaves with all its roles
5. or role by role; while the anchor cannot leave, the others stay at least as far as it is

Of a role in a group the least preferred accelerator leaves first that is within the removal, as it
came last, and of equals the highest ordinal. What no group can give is not taken; it is asked for
again. A group keeps one ready instance of each role unless all of it leaves, and so does the
service.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from heteroscale.entities.placement import PlacementRequest, Scarcity
from heteroscale.entities.service import UNIT_SLACK, RolePath
from heteroscale.entities.snapshot import SUPPLY_STATES, Instance, InstanceState
from heteroscale.prescheduler.groups import Group, growth_steps, imbalance, keeps_ratio

_READY = InstanceState.READY
_PENDING = InstanceState.PENDING
#: Nothing is known of the subgroups.
NOT_SCARCE: Mapping[tuple[str, str], Scarcity] = MappingProxyType({})
#: What is or will be supply.
_MAY_LEAVE = SUPPLY_STATES | {_PENDING}


@dataclass(frozen=True, slots=True, eq=False)
class _Candidate:
    """One instance that may leave, and what it is worth."""

    instance: Instance
    units: float
    #: of the scarcest subgroup it has a node in
    scarcity: int


@dataclass(slots=True)
class _Members:
    """What one group has, less what was chosen to leave it."""

    #: (sub-cluster, group)
    key: tuple[str, str]
    #: leaf role → instances, the first to leave last; no role without any
    roles: dict[RolePath, list[_Candidate]] = field(default_factory=dict)
    #: leaf role → instances in rotation
    ready: Counter[RolePath] = field(default_factory=Counter)
    #: leaf role → capacity units
    units: dict[RolePath, float] = field(default_factory=dict)
    #: of the scarcest subgroup that it ever had a node in
    scarcity: int = 0

    def add(self, one: _Candidate) -> None:
        """Take an instance in as the one that leaves first."""
        role = one.instance.role
        self.roles.setdefault(role, []).append(one)
        self.ready[role] += one.instance.state is _READY
        self.units[role] = self.units.get(role, 0.0) + one.units
        self.scarcity = max(self.scarcity, one.scarcity)

    def take(self, one: _Candidate) -> None:
        """Let an instance go."""
        role = one.instance.role
        self.roles[role].remove(one)
        self.ready[role] -= one.instance.state is _READY
        self.units[role] -= one.units
        if not self.roles[role]:
            del self.roles[role], self.units[role]


@dataclass(slots=True)
class _Removal:
    """One request on its way: what was asked, allowed so far, and taken."""

    request: PlacementRequest
    weights: dict[RolePath, int]
    groups: list[_Members]
    #: leaf role → ready instances of the whole service that stay
    ready: Counter[RolePath]
    #: leaf role → units that may still be taken, of all that was asked
    remaining: dict[RolePath, float]
    #: leaf role → units that may still be taken, of the steps so far
    credit: dict[RolePath, float]
    #: leaf role → units of one instance → how many such instances are left
    worths: dict[RolePath, Counter[float]]
    #: roles that no group can give in this step
    stuck: set[RolePath] = field(default_factory=set)
    chosen: list[str] = field(default_factory=list)

    def take(self, group: _Members, one: _Candidate) -> None:
        """Write down that an instance leaves its group."""
        role = one.instance.role
        group.take(one)
        self.worths[role][one.units] -= 1
        self.ready[role] -= one.instance.state is _READY
        self.remaining[role] -= one.units
        self.credit[role] -= one.units
        self.chosen.append(one.instance.uid)

    def spare(self, group: _Members, role: RolePath) -> _Candidate | None:
        """Return which instance of a role leaves a group next; None = the group keeps them."""
        own = group.roles.get(role, [])
        serves = len(group.roles) == len(self.weights)
        kept = self.ready[role] == 1 or (serves and group.ready[role] == 1)
        if serves and len(own) == 1:
            return None
        for one in reversed(own):
            within = one.units <= self.credit[role] + UNIT_SLACK
            if within and not (kept and one.instance.state is _READY):
                return one
        return None


def victims(
    request: PlacementRequest, scarcity: Mapping[tuple[str, str], Scarcity] = NOT_SCARCE
) -> tuple[str, ...]:
    """Return the uids that leave: at most the capacity asked for, what is pending included.

    Args:
        scarcity: (sub-cluster, node) → its subgroup's; absent = not scarce.
    """
    asked = {
        leaf.path: request.remove[leaf.path]
        for leaf in request.spec.group.leaves()
        if request.remove.get(leaf.path, 0) > 0
    }
    if not asked:
        return ()
    groups = _groups(request, scarcity)
    removal = _Removal(
        request=request,
        weights=request.spec.group.weights(request.ratio),
        groups=groups,
        ready=Counter({role: sum(group.ready[role] for group in groups) for role in asked}),
        remaining={role: float(units) for role, units in asked.items()},
        credit=dict.fromkeys(asked, 0.0),
        worths={
            role: Counter(one.units for group in groups for one in group.roles.get(role, ()))
            for role in asked
        },
    )
    # 1. what only waits for its nodes
    while _leave_whole(removal, [one for one in groups if one.roles and _only_waits(one)]):
        pass
    # 2. groups that leave whole
    while _leave_whole(removal, [one for one in groups if one.roles and _in_ratio(removal, one)]):
        pass
    for step in growth_steps(asked):
        removal.stuck.clear()
        for role, units in step.items():
            removal.credit[role] += units
        while due := _due(removal):
            _take_step(removal, due)
    return tuple(removal.chosen)


def _groups(
    request: PlacementRequest, scarcity: Mapping[tuple[str, str], Scarcity]
) -> list[_Members]:
    """Return the service's groups that may shrink, by key."""
    worth = request.spec.group.worth()
    places = {kind: place for place, kind in enumerate(worth)}
    own = [
        one
        for one in request.snapshot.instances
        if one.state in _MAY_LEAVE
        and (one.role, one.accelerator) in worth
        and (one.subcluster, one.group) not in request.closed
    ]
    own.sort(
        key=lambda one: (
            one.state is _PENDING,
            places[one.role, one.accelerator],
            one.ordinal,
            one.uid,
        )
    )
    groups: dict[tuple[str, str], _Members] = {}
    for one in own:
        key = (one.subcluster, one.group)
        scarcest = max(
            (scarcity.get((one.subcluster, name), Scarcity.LOW) for name in one.nodes), default=0
        )
        candidate = _Candidate(one, worth[one.role, one.accelerator], scarcest)
        groups.setdefault(key, _Members(key)).add(candidate)
    return [groups[key] for key in sorted(groups)]


def _only_waits(group: _Members) -> bool:
    return all(one.instance.state is _PENDING for own in group.roles.values() for one in own)


def _in_ratio(removal: _Removal, group: _Members) -> bool:
    """Return whether the groups that stay lose nothing of their ratio when all of this leaves."""
    return (
        len(group.roles) == len(removal.weights)
        and imbalance(group.units, removal.weights) <= 1.0 + UNIT_SLACK
    )


def _due(removal: _Removal) -> list[RolePath]:
    """Return the roles of which the steps so far allow one more instance to be taken."""
    return [
        role
        for role, credit in removal.credit.items()
        if role not in removal.stuck
        and any(
            units <= credit + UNIT_SLACK
            for units, instances in removal.worths[role].items()
            if instances
        )
    ]


def _take_step(removal: _Removal, due: list[RolePath]) -> None:
    """Take one instance of each role that is due, or find that no group can give it."""
    # 3. all of it from one group
    if _give(removal, due):
        return
    # 4. a whole group
    if _leave_whole(removal, removal.groups):
        return
    # 5. role by role, the anchor first
    anchor = removal.request.spec.policy.anchor
    for role in sorted(due, key=lambda role: (role != anchor, role)):
        if not _give(removal, [role]):
            removal.stuck.add(role)


def _give(removal: _Removal, roles: list[RolePath]) -> bool:
    """Take one instance of each role from one group; False = no group can give them.

    One that waits for nodes or serves nothing gives first, then one whose ratio is kept, then the
    fullest; ties go to the last key.
    """
    gifts = [(group, _gift(removal, group, roles)) for group in removal.groups]
    fitting = [(group, gift) for group, gift in gifts if gift]
    if not fitting:
        return False
    group, gift = max(fitting, key=lambda pair: _rank(removal, *pair))
    for one in gift:
        removal.take(group, one)
    return True


def _gift(removal: _Removal, group: _Members, roles: list[RolePath]) -> list[_Candidate]:
    """Return one instance of each role that a group can give; none where one role has none."""
    gift = [one for role in roles if (one := removal.spare(group, role)) is not None]
    if len(gift) < len(roles):
        return []
    anchor = removal.request.spec.policy.anchor
    if anchor not in removal.stuck or anchor not in group.roles:
        return gift
    exact = group.units[anchor] / removal.weights[anchor]
    ahead = all(
        (group.units[one.instance.role] - one.units) / removal.weights[one.instance.role]
        >= exact - UNIT_SLACK
        for one in gift
    )
    return gift if ahead else []


def _rank(
    removal: _Removal, group: _Members, gift: list[_Candidate]
) -> tuple[bool, bool, bool, int, float, tuple[str, str]]:
    shape = Group(name=group.key[1], subcluster=group.key[0], domain=(), units=group.units)
    step = {one.instance.role: -1 for one in gift}
    return (
        any(one.instance.state is _PENDING for one in gift),
        len(group.roles) < len(removal.weights),
        keeps_ratio(shape, step, removal.weights),
        group.scarcity,
        sum(group.units[role] for role in step),
        group.key,
    )


def _leave_whole(removal: _Removal, groups: list[_Members]) -> bool:
    """Take all of one of these groups that is within what was asked; False = none is.

    The one on the scarcest subgroup, then the fullest.
    """
    fitting = [group for group in groups if group.roles and _may_leave(removal, group)]
    if not fitting:
        return False
    group = max(fitting, key=lambda group: (group.scarcity, sum(group.units.values()), group.key))
    for role in sorted(group.roles):
        for one in reversed(list(group.roles[role])):
            removal.take(group, one)
    return True


def _may_leave(removal: _Removal, group: _Members) -> bool:
    remaining: Mapping[RolePath, float] = removal.remaining
    for role in group.roles:
        ready = group.ready[role]
        if group.units[role] > remaining.get(role, 0.0) + UNIT_SLACK:
            return False
        if ready and ready == removal.ready[role]:
            return False
    return True
