"""What makes a scenario impossible: contradictions, and fleets that its nodes cannot hold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from heteroscale.config.fault_sections import fault_rules
from heteroscale.config.policy_rules import leaf_rule, repeated
from heteroscale.config.rules import (
    interval_rules,
    leaf_roles,
    levels_of,
    service_rules,
    within_bounds,
)
from heteroscale.config.services import stage_of
from heteroscale.config.view import Fault, View
from heteroscale.entities.service import Stage

_TRAFFIC = ("rate_curve", "trace", "generator")
_MODEL = ("name", "shape", "table", "profile")
#: of efficiency, what measured times do not already hold
_BESIDE_TIMES = (
    "host_s",
    "sequence_s",
    "mixed_overlap",
    "prefill_occupancy",
    "decode_occupancy",
)
#: S0, S1 and S2 of the simulated network
_LEVELS = 3
_GPUS_PER_NODE_DEFAULT = 8
_BLOCK_TOKENS_DEFAULT = 512
#: of one prefix cache: 100 MB of the simulator's memory for each prefill instance
_MAX_BLOCKS = 2_000_000
#: of shares written with a few digits
_ROUNDING = 1e-6


def scenario_rules(file: View) -> Iterator[Fault]:
    """Yield what is wrong between the fields of a scenario file, of one service or of several."""
    levels = levels_of(file.at("fleet"))
    if levels and len(levels) != _LEVELS:
        rule = f"must have {_LEVELS} entries: the simulated network has three levels of switches"
        yield Fault(view=file.at("fleet", "levels"), rule=rule, shown=False)
    parts = parts_of(file)
    yield from repeated(part.at("service", "name") for part in parts)
    services = [part.at("service") for part in parts]
    yield from interval_rules(file.at("fleet", "interval_s"), services)
    for part in parts:
        yield from _service_rules(part, file.at("duration_s"), levels)
    yield from _hardware_rules(file.at("nodes"), parts)
    scrape_s = file.at("metrics", "scrape_interval_s").number(15.0)
    window_s = file.at("metrics", "window_s").number(60.0)
    if scrape_s is not None and window_s is not None and window_s < scrape_s:
        rule = f"must be ≥ scrape_interval_s ({scrape_s:g})"
        yield Fault(view=file.at("metrics", "window_s"), rule=rule)
    jitter_s = file.at("metrics", "jitter_s").number(0.0)
    if jitter_s is not None and scrape_s is not None and jitter_s >= scrape_s / 2:
        rule = f"must be < scrape_interval_s ÷ 2 ({scrape_s / 2:g})"
        yield Fault(view=file.at("metrics", "jitter_s"), rule=rule)
    named = (part.at("subcluster").text("main") for part in file.at("nodes").items())
    subclusters = tuple(dict.fromkeys(name for name in named if name is not None))
    yield from fault_rules(file.at("faults"), _roles_by_service(services), subclusters)


def parts_of(file: View) -> tuple[View, ...]:
    """Return what holds each service with its traffic: the file itself where there is one."""
    several = file.at("services")
    return tuple(several.items()) if several.written else (file,)


def _service_rules(part: View, duration: View, levels: tuple[str, ...] | None) -> Iterator[Fault]:
    """Yield what is wrong with one service, its traffic and its engines."""
    yield from service_rules(part.at("service"), levels)
    yield from _traffic_rules(part.at("traffic"), duration)
    yield from _model_rules(part.at("model"))
    yield from _cache_rules(part.at("serving"), part.at("traffic"))
    roles = part.at("service", "group", "roles")
    yield from _role_rules(roles, part.at("serving", "prefill_parts"))
    yield from _initial_rules(part.at("initial"), _leaves(part))
    if part.at("start_up").value is not None and part.at("start_up_s").written:
        rule = "must not be written beside start_up_s"
        yield Fault(view=part.at("start_up"), rule=rule, shown=False)


def _leaves(part: View) -> dict[str, View]:
    return leaf_roles(part.at("service", "group", "roles"))


def _roles_by_service(services: Sequence[View]) -> dict[str, tuple[str, ...]]:
    """Return service → leaf roles; empty while a name is unknown."""
    named = [(one.at("name").text(), leaf_roles(one.at("group", "roles"))) for one in services]
    known = [(name, tuple(leaves)) for name, leaves in named if name is not None]
    return dict(known) if len(known) == len(named) else {}


def _one_of(section: View, keys: tuple[str, ...]) -> Iterator[Fault]:
    if not isinstance(section.value, dict):
        return
    chosen = [key for key in keys if section.at(key).value is not None]
    if len(chosen) != 1:
        rule = f"must have exactly one of {', '.join(keys)}"
        found = f"{rule}, got {' and '.join(chosen)}" if chosen else rule
        yield Fault(view=section, rule=found, shown=False)


def _traffic_rules(traffic: View, duration: View) -> Iterator[Fault]:
    yield from _one_of(traffic, _TRAFFIC)
    generator = traffic.at("generator")
    if not isinstance(generator.value, dict):
        return
    if duration.value is None:
        yield Fault(view=duration, rule="is required with traffic.generator", shown=False)
    for key in ("rate_rps", "input", "output"):
        if generator.at("preset").value is None and generator.at(key).value is None:
            yield Fault(view=generator.at(key), rule="is required without a preset", shown=False)
    end_s = duration.number()
    for event in (*generator.at("bursts").items(), *generator.at("steps").items()):
        at_s = event.at("at_s").number()
        if at_s is not None and end_s is not None and at_s >= end_s:
            yield Fault(view=event.at("at_s"), rule=f"must be < duration_s ({end_s:g})")


def _cache_rules(serving: View, traffic: View) -> Iterator[Fault]:
    """Yield a fault for a prefix cache that is missing, can keep nothing, or has no such size."""
    cache = serving.at("prefix_cache")
    routing = serving.at("routing")
    if cache.value is None:
        if routing.text() == "prefix_aware":
            yield Fault(view=routing, rule="needs serving.prefix_cache to be prefix_aware")
        return
    for key in ("rate_curve", "generator"):
        if traffic.at(key).value is not None:
            rule = f"must be absent with traffic.{key}: only a trace says how its prompts begin"
            yield Fault(view=cache, rule=rule, shown=False)
    tokens = cache.at("block_tokens").number(_BLOCK_TOKENS_DEFAULT)
    capacity = cache.at("capacity_tokens").number()
    if tokens is None or capacity is None:
        return
    if not tokens <= capacity <= _MAX_BLOCKS * tokens:
        rule = f"must be 1 to {_MAX_BLOCKS:,} times block_tokens ({tokens:g})"
        yield Fault(view=cache.at("capacity_tokens"), rule=rule)


def _model_rules(model: View) -> Iterator[Fault]:
    yield from _one_of(model, _MODEL)
    measured = next((key for key in ("table", "profile") if model.at(key).value is not None), None)
    for key, value in model.at("efficiency").entries():
        if measured is not None and key not in _BESIDE_TIMES and value.value is not None:
            rule = f"must be absent with {measured}: measured times hold it already"
            yield Fault(view=value, rule=rule)
    if model.at("profile_of").value is not None and model.at("profile").value is None:
        rule = "must be absent without profile"
        yield Fault(view=model.at("profile_of"), rule=rule, shown=False)
    shape = model.at("shape")
    attention = shape.at("attention")
    yield from _one_of(attention, ("grouped", "latent"))
    yield from _at_most(shape, "parameters_active", "parameters_total")
    yield from _at_most(attention.at("grouped"), "kv_heads", "heads")


def _at_most(section: View, lower: str, upper: str) -> Iterator[Fault]:
    limit, value = section.at(upper).number(), section.at(lower).number()
    if limit is not None and value is not None and value > limit:
        yield Fault(view=section.at(lower), rule=f"must be ≤ {upper} ({limit:g})")


def _role_rules(roles: View, parts: View) -> Iterator[Fault]:
    """Yield a fault unless the simulator can serve these roles: one prefill and one decode."""
    if not roles.entries():
        return
    stages = [stage_of(name, role.at("stage").text(), None) for name, role in roles.entries()]
    nested = {
        stage: dict(role.at("roles").entries())
        for stage, (_, role) in zip(stages, roles.entries(), strict=True)
    }
    deeper = [
        role for inside in nested.values() for role in inside.values() if role.at("roles").entries()
    ]
    if sorted(filter(None, stages)) != [Stage.DECODE, Stage.PREFILL] or None in stages:
        rule = "must be one prefill and one decode role, to be simulated"
        yield Fault(view=roles, rule=rule, shown=False)
    elif nested[Stage.DECODE] or deeper:
        rule = "may have roles inside prefill only, and none inside those, to be simulated"
        yield Fault(view=roles, rule=rule, shown=False)
    else:
        name = next(
            name
            for (name, _), stage in zip(roles.entries(), stages, strict=True)
            if stage is Stage.PREFILL
        )
        yield from _part_rules(parts, [f"{name}/{part}" for part in nested[Stage.PREFILL]])


def _part_rules(parts: View, leaves: list[str]) -> Iterator[Fault]:
    """Yield what is wrong with how the roles inside prefill are said to work together."""
    if not leaves and parts.value is not None:
        yield Fault(view=parts, rule="must be absent without roles inside prefill", shown=False)
    if leaves and parts.value is None:
        yield Fault(view=parts, rule="is required with roles inside prefill", shown=False)
    work = parts.at("work")
    if not leaves or not isinstance(work.value, dict):
        return
    if sorted(work.value) != sorted(leaves):
        rule = f"must be of exactly {', '.join(leaves)}"
        yield Fault(view=work, rule=rule, shown=False)
    shares = [share.number() for _, share in work.entries()]
    total = sum(share for share in shares if share is not None)
    if None not in shares and abs(total - 1.0) > _ROUNDING:
        yield Fault(view=work, rule=f"must add up to 1, got {total:g}", shown=False)


def _initial_rules(initial: View, leaves: dict[str, View]) -> Iterator[Fault]:
    if not leaves or not isinstance(initial.value, dict):
        return
    for role in leaves:
        if not initial.at(role).written:
            rule = "is required: every role with instances must be named"
            yield Fault(view=initial.at(role), rule=rule, shown=False)
    for role, count in initial.entries():
        if role in leaves:
            yield from within_bounds(count, leaves[role])
        else:
            yield Fault(view=count, rule=leaf_rule(tuple(leaves)), shown=False)


def _hardware_rules(nodes: View, parts: Sequence[View]) -> Iterator[Fault]:
    sizes = _node_sizes(nodes)
    if not sizes:
        return
    for leaf in (leaf for part in parts for leaf in _leaves(part).values()):
        for option in leaf.at("accelerators").items():
            kind, gpus = option.at("type").text(), option.at("gpus").number()
            if kind is not None and kind not in sizes:
                rule = f"must be an accelerator of the nodes: {', '.join(sizes)}"
                yield Fault(view=option.at("type"), rule=rule)
            elif kind is not None and gpus is not None and gpus > max(sizes[kind]):
                rule = f"must be ≤ {max(sizes[kind])}, the GPUs of the largest {kind} node"
                yield Fault(view=option.at("gpus"), rule=rule)
    yield from _room_rules(parts, sizes)


def _room_rules(parts: Sequence[View], sizes: dict[str, list[int]]) -> Iterator[Fault]:
    """Yield a fault for each role whose first instances find no room; larger ones go first."""
    wanted: list[tuple[int, str, int, str, int]] = []
    for at, part in enumerate(parts):
        for role, leaf in _leaves(part).items():
            option = next(leaf.at("accelerators").items(), leaf.at("accelerators"))
            kind, count = option.at("type").text(), part.at("initial", role).number()
            gpus, nodes = option.at("gpus").number(), option.at("nodes").number(1)
            if kind not in sizes or count is None or gpus is None or nodes is None:
                continue
            if 1 <= gpus <= max(sizes[kind]):
                wanted.append((int(gpus), role, -at, kind, int(count * nodes)))
    free = {kind: sorted(gpus) for kind, gpus in sizes.items()}
    for gpus, role, at, kind, pieces in sorted(wanted, reverse=True):
        room = sum(left // gpus for left in free[kind])
        if room < pieces:
            rule = f"must fit the nodes: {len(free[kind])} {kind} nodes have room for {room} of"
            view = parts[-at].at("initial", role)
            yield Fault(view=view, rule=f"{rule} {pieces} × {gpus} GPUs")
            continue
        free[kind] = _without(free[kind], gpus, pieces)


def _without(free: list[int], gpus: int, pieces: int) -> list[int]:
    """Return what is left free on each node after pieces of one size are taken, first fit."""
    left: list[int] = []
    for size in free:
        taken = min(pieces, size // gpus)
        pieces -= taken
        left.append(size - taken * gpus)
    return left


def _node_sizes(nodes: View) -> dict[str, list[int]]:
    """Return accelerator → GPUs of each node; empty while any of it is unknown."""
    sizes: dict[str, list[int]] = {}
    for section in nodes.items():
        kind, count = section.at("accelerator").text(), section.at("nodes").number()
        gpus = section.at("gpus_per_node").number(_GPUS_PER_NODE_DEFAULT)
        if kind is None or count is None or gpus is None:
            return {}
        sizes.setdefault(kind, []).extend([int(gpus)] * int(count))
    return sizes
