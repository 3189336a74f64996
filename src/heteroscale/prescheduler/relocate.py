"""Which groups leave scarce subgroups to others now: few at once, and a new place comes first.

1. of each service at rest the smallest group of the scarcest class that it can spare
2. where they would stand in less scarce subgroups, beside all that is there and all that this
   tick placed
3. in order of their size, as many as the bounds allow

While something essential is lacking, no group goes that holds what is essential to its own
service, and only one, whose leaving lets the cycle place more of what is lacking.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from heteroscale.entities.placement import Grant, Lack, PlacementRequest, Scarcity
from heteroscale.entities.service import UNIT_SLACK, RolePath, ServiceSpec
from heteroscale.entities.snapshot import Instance, InstanceState, ServiceSnapshot
from heteroscale.prescheduler.cycle import place_all
from heteroscale.prescheduler.defragment import Ground, Relocation, elsewhere_of, whole_groups
from heteroscale.prescheduler.make_way import Cycle, lacks_of
from heteroscale.prescheduler.objective import size_of

#: groups that are looked at in one tick: each may cost a cycle of its own
TRIED_MAX = 4
#: the "service" of what was placed in this tick; no service can be called so
_PLACED = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resident:
    """A service at rest."""

    spec: ServiceSpec
    snapshot: ServiceSnapshot
    #: leaf role → capacity units
    supply: Mapping[RolePath, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Departure:
    """A group that is to leave, and what is opened in its place."""

    leaves: Relocation
    grants: tuple[Grant, ...]
    #: of the grants
    gpus: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What may still set out."""

    groups: int
    gpus: int


def departures(
    residents: Sequence[Resident],
    bounds: Bounds,
    cycle: Cycle,
    placed: Sequence[Grant],
    lacks: Sequence[Lack],
) -> tuple[Departure, ...]:
    """Return which groups set out in this tick.

    Args:
        residents: sorted by name.
        placed: what this tick placed.
        lacks: what is essential and lacking.
    """
    ground = Ground.of(cycle.snapshot.inventory, cycle.fleet.levels)
    specs = {request.spec.name: request.spec for request in cycle.requests}
    specs |= {one.spec.name: one.spec for one in residents}
    taken = ServiceSnapshot(instances=seated(placed, specs))
    cycle = replace(
        cycle,
        snapshot=replace(cycle.snapshot, services={**cycle.snapshot.services, _PLACED: taken}),
    )
    groups = [
        (resident, one)
        for resident in residents
        for one in whole_groups(resident.spec, resident.snapshot.instances, ground)
        if one.scarcity > Scarcity.LOW and _spared(resident, one, short=bool(lacks))
    ]
    for scarcity in (Scarcity.HIGH, Scarcity.MEDIUM):
        smallest: dict[str, Relocation] = {}
        of_it = [one for _, one in groups if one.scarcity is scarcity]
        for one in sorted(of_it, key=_size):
            smallest.setdefault(one.service, one)
        moving = list(smallest.values())[:TRIED_MAX]
        elsewhere = replace(cycle.snapshot, inventory=ground.calmer(scarcity))
        requests = elsewhere_of(moving, specs, elsewhere)
        plan = place_all(requests, elsewhere, cycle.fleet.levels, cycle.fleet.prices, cycle.solver)
        unplaced = {no_fit.service for no_fit in plan.no_fits}
        fitting = [
            _departure(one, plan.grants, specs) for one in moving if one.service not in unplaced
        ]
        found = _within(fitting, bounds, cycle, lacks, specs)
        if found:
            return found
    return ()


def seated(grants: Iterable[Grant], specs: Mapping[str, ServiceSpec]) -> tuple[Instance, ...]:
    """Return grants as instances on the nodes they were given."""
    return tuple(
        Instance(
            uid=f"{grant.service}/{grant.subcluster}/{grant.group}/{grant.role}/{number}",
            service=_PLACED,
            role=grant.role,
            group=grant.group,
            subcluster=grant.subcluster,
            accelerator=grant.accelerator,
            ordinal=number,
            state=InstanceState.STARTING,
            since_s=0.0,
            nodes=nodes,
            gpus=_gpus(grant, specs) // (len(grant.nodes) * len(nodes)),
        )
        for grant in grants
        for number, nodes in enumerate(grant.nodes)
    )


def _spared(resident: Resident, one: Relocation, *, short: bool) -> bool:
    """Return whether a service may have the group twice for a while, or be without it if short."""
    spec = resident.spec
    worth, essential = spec.group.worth(), spec.essential_units()
    units = dict.fromkeys(essential, 0.0)
    for each in one.instances:
        units[each.role] += worth.get((each.role, each.accelerator), 0.0)
    return all(
        resident.supply[leaf.path] + units[leaf.path] <= leaf.max_replicas + UNIT_SLACK
        and not (
            short
            and resident.supply[leaf.path] - units[leaf.path] < essential[leaf.path] - UNIT_SLACK
        )
        for leaf in spec.group.leaves()
    )


def _size(one: Relocation) -> tuple[int, str, str, str]:
    return (sum(one.freed_gpus.values()), one.service, one.subcluster, one.group)


def _departure(
    one: Relocation, grants: Iterable[Grant], specs: Mapping[str, ServiceSpec]
) -> Departure:
    own = tuple(grant for grant in grants if grant.service == one.service)
    return Departure(leaves=one, grants=own, gpus=sum(_gpus(grant, specs) for grant in own))


def _gpus(grant: Grant, specs: Mapping[str, ServiceSpec]) -> int:
    option = specs[grant.service].option(grant.role, grant.accelerator)
    return 0 if option is None else grant.replicas * size_of(option)


def _within(
    fitting: Iterable[Departure],
    bounds: Bounds,
    cycle: Cycle,
    lacks: Sequence[Lack],
    specs: Mapping[str, ServiceSpec],
) -> tuple[Departure, ...]:
    """Return those that keep the bounds; where something is lacking, the first that helps."""
    groups, gpus = bounds.groups, bounds.gpus
    found: list[Departure] = []
    for one in fitting:
        if one.gpus > gpus or len(found) == groups:
            continue
        if lacks:
            if _helps(one, cycle, lacks, specs):
                return (one,)
            continue
        gpus -= one.gpus
        found.append(one)
    return tuple(found)


def _helps(
    one: Departure, cycle: Cycle, lacks: Sequence[Lack], specs: Mapping[str, ServiceSpec]
) -> bool:
    """Return whether more of what is lacking would be placed once a group has left."""
    name = one.leaves.service
    seen, services = cycle.snapshot.services[name], dict(cycle.snapshot.services)
    gone = {each.uid for each in one.leaves.instances}
    stays = tuple(each for each in seen.instances if each.uid not in gone)
    services[name] = replace(seen, instances=(*stays, *seated(one.grants, specs)))
    missing = {no_fit.service: no_fit.missing for no_fit in cycle.no_fits}
    lacking = {lack.spec.name for lack in lacks}
    requests: list[PlacementRequest] = [
        replace(request, add=missing[request.spec.name], remove={})
        for request in cycle.requests
        if request.spec.name in lacking
    ]
    made = cycle.place(requests, services)
    after = lacks_of(made.no_fits, specs, cycle.wanted)
    return _units(after) < _units(lacks)


def _units(lacks: Iterable[Lack]) -> int:
    return sum(units for lack in lacks for units in lack.missing.values())
