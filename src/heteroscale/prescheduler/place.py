"""One cycle of placement: requests by priority, first fit, in steps that are placed whole.

1. sort requests: those that will be acted on first, by priority, then name; build the ledger
2. choose what leaves; its GPUs return only with the next cycle's inventory
3. grow existing groups in name order, first those whose ratio a step keeps
4. open new groups in the first domain that holds one of every role; where what is left is not of
   every role, with one unit more of those it is not of
5. count the causes of what is left
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from heteroscale.entities.placement import (
    Grant,
    NoFit,
    PlacementPlan,
    PlacementRequest,
    Release,
)
from heteroscale.entities.service import UNIT_SLACK, Mode, RolePath, RoleSpec
from heteroscale.entities.snapshot import Instance, InstanceState
from heteroscale.entities.topology import DomainPath, Inventory, TopologyTree
from heteroscale.prescheduler.causes import causes_of
from heteroscale.prescheduler.groups import (
    Group,
    Scope,
    existing_groups,
    growth_steps,
    keeps_ratio,
    new_group_name,
    scope_of,
)
from heteroscale.prescheduler.ledger import Ledger, Shapes
from heteroscale.prescheduler.victims import victims

#: (group, role, accelerator, sub-cluster, domain) → replicas granted
_Grants = dict[tuple[str, RolePath, str, str, DomainPath], int]


@dataclass(slots=True, kw_only=True)
class _Growth:
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
    grants: _Grants = field(default_factory=dict)

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
    #: (role, accelerator, domain) → replicas
    taken: dict[tuple[RolePath, str, DomainPath], int]

    def fork(self) -> _Trial:
        """Return a trial inside this trial."""
        return _Trial(
            ledger=self.ledger.fork(),
            scopes=dict(self.scopes),
            surplus=dict(self.surplus),
            taken=dict(self.taken),
        )

    def accept(self, inner: _Trial) -> None:
        """Take over everything the inner trial did."""
        self.ledger.commit(inner.ledger)
        self.scopes, self.surplus, self.taken = inner.scopes, inner.surplus, inner.taken


def place(
    requests: Sequence[PlacementRequest],
    inventory: Inventory,
    tree: TopologyTree,
    instances: Sequence[Instance],
) -> PlacementPlan:
    """Return where the requested capacity goes, what leaves, and what fits nowhere.

    Args:
        inventory: nodes that may be used in this cycle, in any order.
        instances: of every service, also of those that ask for nothing: they hold GPUs.
    """
    # 1. order
    ordered = sorted(requests, key=_request_order)
    # 2. what leaves
    releases = [
        Release(service=request.spec.name, uids=uids)
        for request in ordered
        if (uids := victims(request))
    ]
    # 1. ledger, only when somebody needs it
    growing = [request for request in ordered if any(n > 0 for n in request.add.values())]
    grants: list[Grant] = []
    no_fits: list[NoFit] = []
    if growing:
        ledger = Ledger.of(inventory, tree, instances, _shapes(ordered))
        for request in growing:
            _place_request(request, ledger, tree.levels, grants, no_fits)
    return PlacementPlan(
        grants=tuple(sorted(grants, key=_grant_order)),
        releases=tuple(sorted(releases, key=lambda release: release.service)),
        no_fits=tuple(sorted(no_fits, key=lambda no_fit: no_fit.service)),
    )


def _place_request(
    request: PlacementRequest,
    ledger: Ledger,
    levels: Sequence[str],
    grants: list[Grant],
    no_fits: list[NoFit],
) -> None:
    """Place one service's additions and append what was granted and what was not."""
    growth = _Growth(
        request=request,
        scope=scope_of(request.spec.group),
        weights=request.spec.group.weights(request.ratio),
        left={role: units for role, units in sorted(request.add.items()) if units > 0},
    )
    groups = existing_groups(request, levels)
    # 3. existing groups, those whose ratio is kept first
    for balanced in (True, False):
        for group in groups:
            _grow(growth, group, ledger, balanced=balanced)
    # 4. new groups
    may_open = False
    if not request.awaiting:
        while growth.left and (may_open := _completable(growth)) and _open_whole(growth, ledger):
            pass
    # 5. the remainder; of what is not seen yet some may hold it
    if growth.left and not request.awaiting:
        causes = causes_of(request, growth.left, groups, ledger, may_open)
        no_fits.append(NoFit(service=request.spec.name, missing=growth.left, causes=causes))
    grants += _granted(growth)


def _completable(growth: _Growth) -> bool:
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


def _open_whole(growth: _Growth, ledger: Ledger) -> bool:
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


def _shapes(requests: Sequence[PlacementRequest]) -> Shapes:
    return {
        (request.spec.name, leaf.path, option.type): option
        for request in requests
        for leaf in request.spec.group.leaves()
        for option in leaf.accelerators
    }


def _grow(growth: _Growth, group: Group, ledger: Ledger, *, balanced: bool) -> bool:
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
            ledger=ledger.fork(), scopes=dict(group.scopes), surplus=dict(growth.surplus), taken={}
        )
        where = group.domain or (group.subcluster,)
        if not _fits(growth.scope, where, step, trial):
            break
        ledger.commit(trial.ledger)
        _settle(growth, group, step, trial)
        grown = True
    return grown


def _settle(growth: _Growth, group: Group, step: dict[RolePath, int], trial: _Trial) -> None:
    """Write a placed step down: in the group, in the grants, in what is left."""
    growth.surplus = trial.surplus
    group.scopes = trial.scopes
    for role, units in step.items():
        growth.left[role] -= units
        group.units[role] = group.units.get(role, 0.0) + units
        if not growth.left[role]:
            del growth.left[role]
    for (role, accelerator, domain), replicas in trial.taken.items():
        # A group that is bound to nothing narrower than its sub-cluster says so.
        target = domain if len(domain) > 1 else ()
        key = (group.name, role, accelerator, group.subcluster, target)
        growth.grants[key] = growth.grants.get(key, 0) + replicas


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
    owed = units - trial.surplus.get(leaf.path, 0.0)
    while owed > UNIT_SLACK:
        option = next((o for o in leaf.accelerators if trial.ledger.take(domain, o)), None)
        if option is None:
            return False
        owed -= option.capacity
        key = (leaf.path, option.type, domain)
        trial.taken[key] = trial.taken.get(key, 0) + 1
    trial.surplus[leaf.path] = -owed
    return True


def _open(growth: _Growth, ledger: Ledger) -> bool:
    """Start one group in the first domain that holds one unit of every role, and grow it there."""
    request = growth.request
    leaves = request.spec.group.leaves()
    taken = {count.group for count in request.snapshot.group_roles}
    taken |= {one.group for one in request.snapshot.instances}
    taken |= {key[0] for key in growth.grants}
    name = new_group_name(taken)
    for domain in ledger.domains(request.spec.group.within):
        if not all(any(ledger.has_room(domain, o) for o in leaf.accelerators) for leaf in leaves):
            continue
        group = Group(name=name, subcluster=domain[0], domain=domain)
        if _grow(growth, group, ledger, balanced=False):
            return True
    return False


def _granted(growth: _Growth) -> list[Grant]:
    return [
        Grant(
            service=growth.request.spec.name,
            group=group,
            role=role,
            accelerator=accelerator,
            domain=domain,
            subcluster=subcluster,
            replicas=replicas,
        )
        for (group, role, accelerator, subcluster, domain), replicas in growth.grants.items()
    ]


def _request_order(request: PlacementRequest) -> tuple[bool, int, str]:
    spec = request.spec
    return (spec.mode is not Mode.ENFORCE, -spec.priority, spec.name)


def _grant_order(grant: Grant) -> tuple[str, str, str, str, str, DomainPath]:
    return (
        grant.service,
        grant.group,
        grant.role,
        grant.accelerator,
        grant.subcluster,
        grant.domain,
    )
