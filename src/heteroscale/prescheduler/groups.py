"""Deployment groups as the pre-scheduler sees them, and the steps by which they grow."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from heteroscale.entities.placement import PlacementRequest
from heteroscale.entities.service import UNIT_SLACK, GroupSpec, RolePath, RoleSpec
from heteroscale.entities.topology import DomainPath
from heteroscale.prescheduler.topology import depth_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Roles that share one domain: a group, or a role that must stay closer together than it."""

    #: "" for the group itself
    path: RolePath
    #: topology level shared; None = the sub-cluster
    within: str | None
    #: roles with instances that need nothing narrower than this scope
    leaves: tuple[RoleSpec, ...]
    #: narrower scopes inside
    scopes: tuple[Scope, ...]

    def roles(self) -> Iterator[RolePath]:
        """Yield every leaf role of the scope, the narrower scopes' too."""
        yield from (leaf.path for leaf in self.leaves)
        for scope in self.scopes:
            yield from scope.roles()


@dataclass(slots=True, kw_only=True)
class Group:
    """One deployment group in this cycle; grows as steps are placed in it."""

    name: str
    subcluster: str
    #: () = anywhere in the sub-cluster
    domain: DomainPath
    #: scope path → the narrower domain its roles live in already
    scopes: dict[RolePath, DomainPath] = field(default_factory=dict)
    #: leaf role → capacity units asked for so far
    units: dict[RolePath, float] = field(default_factory=dict)


def scope_of(group: GroupSpec) -> Scope:
    """Return which roles of a group share which domain."""
    return _scope("", group.within, group.roles)


def _scope(path: RolePath, within: str | None, roles: Sequence[RoleSpec]) -> Scope:
    leaves: list[RoleSpec] = []
    scopes: list[Scope] = []
    for role in roles:
        if role.within is not None and role.within != within:
            scopes.append(_scope(role.path, role.within, (role,)))
        elif role.is_leaf:
            leaves.append(role)
        else:
            inner = _scope(role.path, within, role.roles)
            leaves += inner.leaves
            scopes += inner.scopes
    return Scope(path=path, within=within, leaves=tuple(leaves), scopes=tuple(scopes))


def existing_groups(request: PlacementRequest, levels: Sequence[str]) -> list[Group]:
    """Return the service's groups that can change, sorted by name, then sub-cluster."""
    depth = depth_of(levels, request.spec.group.within)
    narrow = _narrow_roles(scope_of(request.spec.group))
    worth = request.spec.group.worth()
    groups: dict[tuple[str, str], Group] = {}
    for count in request.snapshot.group_roles:
        if (count.subcluster, count.group) in request.closed:
            continue
        # Two sub-clusters may use one name for groups that have nothing to do with each other.
        key = (count.group, count.subcluster)
        group = groups.get(key)
        if group is None:
            domain = count.domain[:depth]
            group = Group(name=count.group, subcluster=count.subcluster, domain=domain)
            groups[key] = group
        capacity = count.replicas * worth.get((count.role, count.accelerator), 0.0)
        group.units[count.role] = group.units.get(count.role, 0.0) + capacity
        if count.replicas and len(count.domain) > depth:
            for scope, level in narrow.get(count.role, ()):
                group.scopes.setdefault(scope, count.domain[: depth_of(levels, level)])
    return [groups[key] for key in sorted(groups)]


def widest_level(group: GroupSpec, levels: Sequence[str]) -> str | None:
    """Return the widest level a new group may share; None = the sub-cluster."""
    if group.within is None:
        return None
    return ([*levels, None] + [None] * group.allowance)[
        levels.index(group.within) + group.allowance
    ]


def _narrow_roles(scope: Scope) -> dict[RolePath, tuple[tuple[RolePath, str | None], ...]]:
    """Return leaf role → the scopes below the group it lies in, with their levels."""
    found: dict[RolePath, tuple[tuple[RolePath, str | None], ...]] = {}
    for inner in scope.scopes:
        below = _narrow_roles(inner)
        for role in inner.roles():
            found[role] = ((inner.path, inner.within), *below.get(role, ()))
    return found


def new_group_name(taken: set[str]) -> str:
    """Return the first of g0, g1, ... that no group has."""
    index = 0
    while f"g{index}" in taken:
        index += 1
    return f"g{index}"


def growth_steps(add: Mapping[RolePath, int]) -> Iterator[dict[RolePath, int]]:
    """Yield the finest steps that together add the given units and keep their proportion.

    After every step each role is less than one unit above its exact part; the first step holds at
    least one unit of every role that grows at all, so it is the smallest set a group starts with.
    """
    longest = max(add.values(), default=0)
    for step in range(1, longest + 1):
        after = {role: -(-units * step // longest) for role, units in add.items()}
        before = {role: -(-units * (step - 1) // longest) for role, units in add.items()}
        yield {role: after[role] - before[role] for role in add if after[role] > before[role]}


def keeps_ratio(
    group: Group, step: Mapping[RolePath, int], weights: Mapping[RolePath, float]
) -> bool:
    """Return whether a step leaves every role within one unit of its exact part, or no worse off.

    A group that is out of balance already (a role was lost) thus takes what it lacks first.
    """
    before = {role: group.units.get(role, 0.0) for role in weights}
    after = {role: units + step.get(role, 0) for role, units in before.items()}
    return imbalance(after, weights) <= max(1.0, imbalance(before, weights)) + UNIT_SLACK


def imbalance(units: Mapping[RolePath, float], weights: Mapping[RolePath, float]) -> float:
    """Return the largest distance of a role from its exact part of the sum, in units."""
    whole = sum(weights.values())
    total = sum(units.values())
    return max(
        abs(units.get(role, 0.0) - total * weight / whole) for role, weight in weights.items()
    )
