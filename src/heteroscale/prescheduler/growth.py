"""Growth of one service unit by unit: into its groups, and into new ones, in whole steps.

Steps are tried in the first domain that holds them; nothing of a step counts until all of it fits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from heteroscale.entities.placement import Grant, PlacementRequest
from heteroscale.entities.service import UNIT_SLACK, AcceleratorOption, RolePath, RoleSpec
from heteroscale.entities.snapshot import InstanceState
from heteroscale.entities.topology import DomainPath
from heteroscale.prescheduler.groups import (
    Group,
    Scope,
    growth_steps,
    keeps_ratio,
    new_group_name,
)
from heteroscale.prescheduler.ledger import Ledger
from heteroscale.prescheduler.objective import size_of

#: of one instance: the names of its nodes, sorted
Seat = tuple[str, ...]
#: (group, role, accelerator, sub-cluster, domain) → the seats of the instances granted
_Grants = dict[tuple[str, RolePath, str, str, DomainPath], list[Seat]]


@dataclass(slots=True, kw_only=True)
class Growth:
    """One request on its way through the cycle."""

    request: PlacementRequest
    scope: Scope
    weights: dict[RolePath, int]
    #: leaf role → capacity units still to be placed
    left: dict[RolePath, int]
    #: leaf role → units placed beyond what the steps so far asked for (instances are whole)
    surplus: dict[RolePath, float] = field(default_factory=dict)
    #: leaf role → units placed because a new group needs one of each role
    extra: dict[RolePath, int] = field(default_factory=dict)
    #: accelerator → GPUs that may still be taken; absent = any number
    quota: dict[str, int] = field(default_factory=dict)
    #: groups that can grow, those that were there before the cycle first
    groups: list[Group] = field(default_factory=list)
    grants: _Grants = field(default_factory=dict)

    def given(
        self, group: Group, role: RolePath, accelerator: str, domain: DomainPath
    ) -> list[Seat]:
        """Return what one role of a group is granted in a domain, to be added to."""
        # A group that is bound to nothing narrower than its sub-cluster says so.
        target = domain if len(domain) > 1 else ()
        key = (group.name, role, accelerator, group.subcluster, target)
        return self.grants.setdefault(key, [])

    def new_group(self, domain: DomainPath) -> Group:
        """Return a group that is opened in a domain, under a name that none has."""
        request = self.request
        taken = {count.group for count in request.snapshot.group_roles}
        taken |= {one.group for one in request.snapshot.instances}
        taken |= {group.name for group in self.groups}
        group = Group(name=new_group_name(taken), subcluster=domain[0], domain=domain)
        self.groups.append(group)
        return group

    @property
    def absent(self) -> list[RolePath]:
        """Roles of which nothing is left to place, though a new group needs one unit of each."""
        return [role for role in self.weights if self.left.get(role, 0) <= 0]


@dataclass(slots=True, kw_only=True)
class _Trial:
    """A step being tried: nothing of it counts until all of it fits."""

    ledger: Ledger
    scopes: dict[RolePath, DomainPath]
    surplus: dict[RolePath, float]
    #: (role, accelerator, domain) → instances
    taken: dict[tuple[RolePath, str, DomainPath], tuple[Seat, ...]]
    #: roles of which the group has nothing yet
    lacking: frozenset[RolePath]
    #: accelerator → GPUs that may still be taken; absent = any number
    quota: dict[str, int]

    def take(self, role: RolePath, domain: DomainPath, option: AcceleratorOption) -> bool:
        """Deduct one instance inside a domain; False = it does not fit."""
        gpus = size_of(option)
        if self.quota.get(option.type, gpus) < gpus:
            return False
        nodes = self.ledger.take(domain, option)
        if not nodes:
            return False
        if option.type in self.quota:
            self.quota[option.type] -= gpus
        key = (role, option.type, domain)
        self.taken[key] = (*self.taken.get(key, ()), self.ledger.names(nodes))
        return True

    def fork(self) -> _Trial:
        """Return a trial inside this trial."""
        return _Trial(
            ledger=self.ledger.fork(),
            scopes=dict(self.scopes),
            surplus=dict(self.surplus),
            taken=dict(self.taken),
            lacking=self.lacking,
            quota=dict(self.quota),
        )

    def accept(self, inner: _Trial) -> None:
        """Take over everything the inner trial did."""
        self.ledger.commit(inner.ledger)
        self.scopes, self.surplus, self.taken = inner.scopes, inner.surplus, inner.taken
        self.quota = inner.quota


def completable(growth: Growth) -> bool:
    """Return whether a new group may hold what is left and one unit of every other role."""
    absent, request = growth.absent, growth.request
    if not absent:
        return True
    # The place of what has failed is free with the next cycle.
    if any(
        one.state is InstanceState.FAILED and one.role in growth.left
        for one in request.snapshot.instances
    ):
        return False
    worth = request.spec.group.worth()
    units = {role: float(request.add.get(role, 0) + growth.extra.get(role, 0)) for role in absent}
    for count in request.snapshot.group_roles:
        if count.role in units:
            units[count.role] += count.replicas * worth.get((count.role, count.accelerator), 0.0)
    return all(
        units[leaf.path] + 1.0 <= leaf.max_replicas
        and leaf.path not in request.spec.pin
        and not request.remove.get(leaf.path, 0)
        for leaf in request.spec.group.leaves()
        if leaf.path in units
    )


def open_whole(growth: Growth, ledger: Ledger) -> bool:
    """Open a new group for what is left, completed by one unit of each role that is absent."""
    absent = growth.absent
    growth.left = dict(sorted({**growth.left, **dict.fromkeys(absent, 1)}.items()))
    if _open(growth, ledger):
        for role in absent:
            growth.extra[role] = growth.extra.get(role, 0) + 1
        return True
    for role in absent:
        del growth.left[role]
    return False


def grow(growth: Growth, group: Group, ledger: Ledger, *, balanced: bool) -> bool:
    """Place step after step in a group until one does not fit; return whether any did.

    Args:
        balanced: stop at a step that would leave the group's ratio.
    """
    lacking = [role for role in growth.weights if group.units.get(role, 0.0) <= 0]
    if any(growth.left.get(role, 0) <= 0 for role in lacking):
        # It would still lack a role afterwards, and serve nothing.
        return False
    grown = False
    for step in growth_steps(dict(growth.left)):
        if balanced and not keeps_ratio(group, step, growth.weights):
            break
        trial = _Trial(
            ledger=ledger.fork(),
            scopes=dict(group.scopes),
            surplus=dict(growth.surplus),
            taken={},
            quota=dict(growth.quota),
            lacking=frozenset(role for role in lacking if group.units.get(role, 0.0) <= 0),
        )
        where = group.domain or (group.subcluster,)
        if not _fits(growth.scope, where, step, trial):
            break
        ledger.commit(trial.ledger)
        _settle(growth, group, step, trial)
        grown = True
    return grown


def _settle(growth: Growth, group: Group, step: dict[RolePath, int], trial: _Trial) -> None:
    """Write a placed step down: in the group, in the grants, in what is left."""
    growth.surplus, growth.quota = trial.surplus, trial.quota
    group.scopes = trial.scopes
    for role, units in step.items():
        growth.left[role] -= units
        group.units[role] = group.units.get(role, 0.0) + units
        if not growth.left[role]:
            del growth.left[role]
    for (role, accelerator, domain), seats in trial.taken.items():
        growth.given(group, role, accelerator, domain).extend(seats)


def _fits(scope: Scope, domain: DomainPath, step: dict[RolePath, int], trial: _Trial) -> bool:
    """Deduct a step's part of one scope inside a domain; False = some of it does not fit."""
    for leaf in scope.leaves:
        if leaf.path in step and not _take(leaf, domain, step[leaf.path], trial):
            return False
    for inner in scope.scopes:
        if any(role in step for role in inner.roles()) and not _fits_inner(
            inner, domain, step, trial
        ):
            return False
    return True


def _fits_inner(scope: Scope, domain: DomainPath, step: dict[RolePath, int], trial: _Trial) -> bool:
    """Deduct a narrower scope's part where its roles live already, or where it fits first."""
    if scope.path in trial.scopes:
        return _fits(scope, trial.scopes[scope.path], step, trial)
    for candidate in trial.ledger.domains(scope.within, domain):
        attempt = trial.fork()
        if _fits(scope, candidate, step, attempt):
            attempt.scopes[scope.path] = candidate
            trial.accept(attempt)
            return True
    return False


def _take(leaf: RoleSpec, domain: DomainPath, units: int, trial: _Trial) -> bool:
    """Deduct instances of a role worth the given units, preferred accelerators first."""
    # Surplus elsewhere is no substitute for the first of a role in a group.
    elsewhere = trial.surplus.get(leaf.path, 0.0) if leaf.path in trial.lacking else 0.0
    owed = units - (trial.surplus.get(leaf.path, 0.0) - elsewhere)
    while owed > UNIT_SLACK:
        option = next((o for o in leaf.accelerators if trial.take(leaf.path, domain, o)), None)
        if option is None:
            return False
        owed -= option.capacity
    trial.surplus[leaf.path] = elsewhere - owed
    return True


def _open(growth: Growth, ledger: Ledger) -> bool:
    """Start one group in the first domain that holds one unit of every role, and grow it there."""
    request = growth.request
    leaves = request.spec.group.leaves()
    for domain in ledger.domains(request.spec.group.within):
        if not all(any(ledger.has_room(domain, o) for o in leaf.accelerators) for leaf in leaves):
            continue
        group = growth.new_group(domain)
        if grow(growth, group, ledger, balanced=False):
            return True
        growth.groups.remove(group)
    return False


def granted(growth: Growth, prices: Mapping[str, float]) -> list[Grant]:
    """Return what a service was given.

    Args:
        prices: accelerator → price of a GPU for an hour; absent = not stated.
    """
    spec = growth.request.spec
    return [
        Grant(
            service=spec.name,
            group=group,
            role=role,
            accelerator=accelerator,
            domain=domain,
            subcluster=subcluster,
            replicas=len(seats),
            nodes=tuple(sorted(seats)),
            price_per_hour=_price(spec.option(role, accelerator), len(seats), prices),
        )
        for (group, role, accelerator, subcluster, domain), seats in growth.grants.items()
    ]


def _price(
    option: AcceleratorOption | None, replicas: int, prices: Mapping[str, float]
) -> float | None:
    if option is None or option.type not in prices:
        return None
    return replicas * size_of(option) * prices[option.type]
