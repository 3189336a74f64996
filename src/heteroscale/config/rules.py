"""Rules between the fields of a service: shape of its roles, references to them, network levels.

They read a tolerant view, so that one wrong number somewhere does not hide every other fault.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from heteroscale.config.fields import default_of
from heteroscale.config.policy_rules import leaf_rule, policy_rules, repeated
from heteroscale.config.services import DEFAULT_LEVELS, stage_of
from heteroscale.config.view import Fault, View
from heteroscale.entities.policy import GuardSpec
from heteroscale.entities.service import FleetSpec, RoleSpec, Stage
from heteroscale.policy.window import gap_limit_s

_MIN_DEFAULT: int = default_of(RoleSpec, "min_replicas")
_MAX_DEFAULT: int = default_of(RoleSpec, "max_replicas")
_INTERVAL_DEFAULT: float = default_of(FleetSpec, "interval_s")
_WINDOW_DEFAULT: float = default_of(GuardSpec, "stabilization_window_s")
#: only mean something where instances are
_BOUNDS = ("min_replicas", "max_replicas")


def fleet_rules(file: View) -> Iterator[Fault]:
    """Yield what is wrong between the fields of a services file."""
    levels = levels_of(file.at("fleet"))
    yield from repeated(file.at("fleet", "levels").items())
    services = tuple(file.at("services").items())
    yield from interval_rules(file.at("fleet", "interval_s"), services)
    for service in services:
        yield from service_rules(service, levels)
    yield from repeated(service.at("name") for service in services)


def levels_of(fleet: View) -> tuple[str, ...] | None:
    """Return the topology levels in force, narrowest first; None = unknown."""
    levels = fleet.at("levels")
    if not levels.written:
        return DEFAULT_LEVELS
    names = tuple(item.text() for item in levels.items())
    known = tuple(name for name in names if name is not None)
    return known if known and len(known) == len(names) else None


def interval_rules(interval: View, services: Iterable[View]) -> Iterator[Fault]:
    """Yield a fault where ticks are so far apart that some stabilization window never fills.

    Every window bears one missed tick.
    """
    interval_s = interval.number(_INTERVAL_DEFAULT)
    windows = [
        (window_s, service.at("name").text() or "a service")
        for service in services
        if (window_s := _window_s(service))
    ]
    if interval_s is None or not windows:
        return
    window_s, name = min(windows)
    most_s = gap_limit_s(window_s) / 2
    if interval_s > most_s:
        rule = f"must be ≤ {most_s:g}: the stabilization window of {name} ({window_s:g} s)"
        yield Fault(view=interval, rule=f"{rule} would never fill with ticks further apart")


def _window_s(service: View) -> float | None:
    """Return the stabilization window in force; None = unknown, 0 = none."""
    return service.at("policy", "guard", "stabilization_window_s").number(_WINDOW_DEFAULT)


def service_rules(service: View, levels: tuple[str, ...] | None) -> Iterator[Fault]:
    """Yield what is wrong between the fields of one service."""
    group = service.at("group")
    roles = group.at("roles")
    for name, role in roles.entries():
        yield from role_rules(role, name, None)
    if levels:
        within = group.at("within")
        yield from _level_rules(within, levels, len(levels))
        for _, role in roles.entries():
            yield from _role_level_rules(role, levels, _width(within, levels, len(levels)))
    if not roles.entries():
        return
    leaves = leaf_roles(roles)
    top = tuple(name for name, _ in roles.entries())
    yield from policy_rules(service.at("policy"), tuple(leaves), top)
    for counts in ("pin", "essential"):
        yield from count_rules(service.at(counts), leaves)


def leaf_roles(roles: View, above: str = "") -> dict[str, View]:
    """Return path → view of every role that has instances, in written order."""
    leaves: dict[str, View] = {}
    for name, role in roles.entries():
        if role.at("roles").entries():
            leaves.update(leaf_roles(role.at("roles"), f"{above}{name}/"))
        else:
            leaves[f"{above}{name}"] = role
    return leaves


def role_rules(
    role: View,
    path: str,
    parent: Stage | None,
    held: tuple[str, Callable[[View], Iterator[Fault]]] | None = None,
) -> Iterator[Fault]:
    """Yield what is wrong with one role and those below it.

    Args:
        held: key of what makes a role with instances one, and its rules; None = accelerators.
    """
    if not isinstance(role.value, dict):
        return
    stage = stage_of(path, role.at("stage").text(), parent)
    if stage is None and role.at("stage").sound:
        rule = "is required: the role's name is not prefill, decode or encode, nor is it inside one"
        yield Fault(view=role.at("stage"), rule=rule, shown=False)
    children = role.at("roles").entries()
    for name, child in children:
        yield from role_rules(child, f"{path}/{name}", stage, held)
    key, rules = held or ("accelerators", _accelerator_rules)
    if children:
        for one in (key, *_BOUNDS):
            if role.at(one).written:
                rule = "is for roles with instances only; this one has roles of its own"
                yield Fault(view=role.at(one), rule=rule, shown=False)
        return
    yield from bounds_rules(role)
    yield from rules(role.at(key))


def bounds_rules(role: View) -> Iterator[Fault]:
    """Yield a fault where a role's bounds leave nothing between them."""
    low = role.at("min_replicas").number(_MIN_DEFAULT)
    high = role.at("max_replicas").number(_MAX_DEFAULT)
    if low is not None and high is not None and low > high:
        key = "min_replicas" if role.at("min_replicas").written else "max_replicas"
        limit = (
            f"≤ max_replicas ({high:g})" if key == "min_replicas" else f"≥ min_replicas ({low:g})"
        )
        yield Fault(view=role.at(key), rule=f"must be {limit}")


def _accelerator_rules(accelerators: View) -> Iterator[Fault]:
    if not accelerators.sound:
        return
    options = tuple(accelerators.items())
    if not options:
        rule = "must name at least one accelerator, or the role must have roles of its own"
        yield Fault(view=accelerators, rule=rule, shown=False)
        return
    yield from repeated(option.at("type") for option in options)
    yield from unit_rules(options[0].at("capacity"), "accelerator")
    for option in options:
        nodes = option.at("nodes").number(1)
        within = option.at("within")
        if nodes is not None and nodes > 1 and within.value is None:
            yield Fault(view=within, rule=f"is required with nodes: {nodes:g}", shown=False)
        if nodes == 1 and within.text() is not None:
            yield Fault(view=within, rule="is for instances of several nodes only")


def unit_rules(first: View, thing: str) -> Iterator[Fault]:
    """Yield a fault where the first of a role's ways to be built is not the capacity unit."""
    if first.number(1.0) not in (None, 1.0):
        rule = f"must be 1.0 for the first {thing}, which is what a capacity unit is"
        yield Fault(view=first, rule=rule)


def _role_level_rules(role: View, levels: tuple[str, ...], around: int) -> Iterator[Fault]:
    """Yield what is wrong with the levels of one role and those below it."""
    yield from _level_rules(role.at("within"), levels, around)
    width = _width(role.at("within"), levels, around)
    for _, child in role.at("roles").entries():
        yield from _role_level_rules(child, levels, width)
    for option in role.at("accelerators").items():
        yield from _level_rules(option.at("within"), levels, width)


def _level_rules(within: View, levels: tuple[str, ...], around: int) -> Iterator[Fault]:
    """Yield what is wrong with one level; `around` is the position of the level around it."""
    level = within.text()
    if level is None:
        return
    if level not in levels:
        yield Fault(view=within, rule=f"must be one of the fleet's levels: {', '.join(levels)}")
    elif levels.index(level) > around:
        yield Fault(
            view=within, rule=f"must not be wider than {levels[around]}, which is around it"
        )


def _width(within: View, levels: tuple[str, ...], around: int) -> int:
    """Return the position of the level in force; `len(levels)` is a whole sub-cluster."""
    level = within.text()
    return min(levels.index(level), around) if level in levels else around


def count_rules(counts: View, leaves: dict[str, View]) -> Iterator[Fault]:
    """Yield what is wrong with counts by role: keys that are none, counts out of bounds."""
    for role, count in counts.entries():
        if role not in leaves:
            yield Fault(view=count, rule=leaf_rule(tuple(leaves)), shown=False)
            continue
        yield from within_bounds(count, leaves[role])


def within_bounds(count: View, leaf: View) -> Iterator[Fault]:
    """Yield a fault when a count is outside the bounds of its role."""
    number = count.number()
    low = leaf.at("min_replicas").number(_MIN_DEFAULT)
    high = leaf.at("max_replicas").number(_MAX_DEFAULT)
    if number is None or low is None or high is None:
        return
    if low <= high and not low <= number <= high:
        yield Fault(view=count, rule=f"must be within the role's bounds, {low:g} to {high:g}")
