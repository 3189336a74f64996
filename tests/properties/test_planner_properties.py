"""Properties of placing, of rotation and of the tick as a whole.

1. free capacity is never negative
2. capacity is conserved over fork and commit: what is granted is exactly what leaves the ledger
3. no half-placed step: what is granted and what is missing make up what was asked, and a new
   group holds every role, within one unit of its exact part
4. equal input, equal output, in any order of nodes, services and requests
5. applying an action twice equals once
6. every change has a reason
7. no instance is withdrawn without an owner that will terminate or restore it
8. no scale-in inside its wait
9. unknown never scales in
10. every count stays within the operator's bounds, and the ledger's nodes within their GPUs
11. no removal leaves a group with instances of one role and none of another, when it had both,
    nor a service without a ready instance of a role; and it is at most what was asked
12. a scripted run in many small domains settles with every group whole
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from hypothesis import given, settings
from hypothesis import strategies as st

from heteroscale.entities.action import Effect, OutcomeKind
from heteroscale.entities.decision import Step
from heteroscale.entities.placement import PlacementPlan, PlacementRequest
from heteroscale.entities.plan import Plan
from heteroscale.entities.policy import ProportionalSpec
from heteroscale.entities.service import AcceleratorOption, FleetSpec
from heteroscale.entities.snapshot import InstanceState, Reading, Signal, Snapshot
from heteroscale.entities.state import FleetState
from heteroscale.entities.topology import Inventory, Node
from heteroscale.planner import plan
from heteroscale.prescheduler.ledger import Ledger
from heteroscale.prescheduler.place import place
from heteroscale.prescheduler.topology import build_tree
from heteroscale.prescheduler.victims import victims
from tests.builders import (
    NOW_S,
    build_instances,
    build_readings,
    build_role,
    build_service,
    build_snapshot,
    build_state,
    unknown,
)
from tests.ticking import CHAT, GUARD, LIFECYCLE, Run
from tests.world import World, build_inventory, build_nodes, free_gpus

LEVELS = ("S1", "S2")
H20 = AcceleratorOption(type="H20", gpus=8)
OPTIONS = (
    H20,
    AcceleratorOption(type="L20", gpus=4, capacity=0.55),
    AcceleratorOption(type="H20", gpus=8, nodes=2),
    AcceleratorOption(type="L20", gpus=8, nodes=2, within="S1"),
)


@st.composite
def inventories(draw: st.DrawFn) -> Inventory:
    """Draw up to 24 nodes over two sub-clusters, two S2 and two S1 each."""
    shapes = draw(
        st.lists(
            st.tuples(
                st.sampled_from(("H20", "L20")),
                st.sampled_from((4, 8)),
                st.sampled_from(("east", "west")),
                st.sampled_from("ab"),
                st.sampled_from("xy"),
                st.integers(0, 9),
            ),
            max_size=24,
        )
    )
    return build_inventory(
        *(
            Node(
                name=f"n{number:02d}",
                accelerator=accelerator,
                gpus=gpus,
                domain=(subcluster, s2, s1),
                healthy=luck > 0,
            )
            for number, (accelerator, gpus, subcluster, s2, s1, luck) in enumerate(shapes)
        )
    )


@st.composite
def requests(draw: st.DrawFn) -> PlacementRequest:
    """Draw a service of two roles that asks for a new group of some shape."""
    first, second = draw(st.sampled_from(OPTIONS)), draw(st.sampled_from(OPTIONS))
    roles = (
        build_role("prefill", accelerators=(first,)),
        build_role("decode", accelerators=(second,)),
    )
    spec = build_service(
        f"s{draw(st.integers(0, 999)):03d}", roles=roles, priority=draw(st.integers(0, 2))
    )
    within = draw(st.sampled_from((None, "S1", "S2")))
    return PlacementRequest(
        spec=replace(spec, group=replace(spec.group, within=within)),
        snapshot=build_snapshot(),
        add={"prefill": draw(st.integers(0, 5)), "decode": draw(st.integers(0, 5))},
    )


DISTINCT = st.lists(requests(), max_size=4, unique_by=lambda request: request.spec.name)


@given(inventories(), st.lists(st.tuples(st.sampled_from(OPTIONS), st.booleans()), max_size=30))
def test_1_and_2_the_ledger_is_never_negative_and_conserves(
    inventory: Inventory, takes: list[tuple[AcceleratorOption, bool]]
) -> None:
    ledger = Ledger.of(inventory, build_tree(inventory, LEVELS), ())
    for option, keep in takes:
        before = free_gpus(ledger)
        trial = ledger.fork()
        taken = bool(trial.take(("east",), option))
        after = free_gpus(trial)
        assert free_gpus(ledger) == before
        assert min(after.values(), default=0) >= 0
        assert sum(before.values()) - sum(after.values()) == taken * option.gpus * option.nodes
        assert taken == ledger.has_room(("east",), option)
        if keep:
            ledger.commit(trial)
            assert free_gpus(ledger) == after


@given(inventories(), DISTINCT)
def test_2_and_3_steps_are_placed_whole_within_what_there_is(
    inventory: Inventory, asked: list[PlacementRequest]
) -> None:
    made = place(asked, inventory, build_tree(inventory, LEVELS), ())
    used: Counter[str] = Counter()
    for request in asked:
        name = request.spec.name
        units: Counter[str] = Counter()
        groups: dict[str, Counter[str]] = {}
        for grant in (grant for grant in made.grants if grant.service == name):
            option = request.spec.option(grant.role, grant.accelerator)
            assert option is not None
            used[option.type] += grant.replicas * option.gpus * option.nodes
            groups.setdefault(grant.group, Counter())[grant.role] += grant.replicas
            units[grant.role] += grant.replicas
        missing = next((n.missing for n in made.no_fits if n.service == name), {})
        for leaf in request.spec.group.leaves():
            worth = leaf.accelerators[0].capacity
            placed = request.add[leaf.path] - missing.get(leaf.path, 0)
            # A group that is opened for what is left of the others gets a unit of this one too.
            beyond = len(groups) if placed == request.add[leaf.path] else 0
            most = placed + beyond + worth + 2e-6
            assert placed <= units[leaf.path] * worth + 1e-6 < most
        assert all(set(roles) == {"prefill", "decode"} for roles in groups.values())
        if groups and all(leaf.accelerators[0] == H20 for leaf in request.spec.group.leaves()):
            first = groups["g0"]
            part = request.add["prefill"] / sum(request.add.values())
            assert abs(first["prefill"] - part * sum(first.values())) <= 1.0
    free: Counter[str] = Counter()
    for node in inventory.nodes:
        free[node.accelerator] += node.gpus * node.healthy
    assert all(used[kind] <= free[kind] for kind in used)
    check_seats(inventory, asked, made)


def check_seats(
    inventory: Inventory, asked: Sequence[PlacementRequest], made: PlacementPlan
) -> None:
    """Hold every grant to naming room that is there, in its domain, on its accelerator."""
    nodes = {node.name: node for node in inventory.nodes}
    specs = {request.spec.name: request.spec for request in asked}
    seated: Counter[str] = Counter()
    for grant in made.grants:
        option = specs[grant.service].option(grant.role, grant.accelerator)
        assert option is not None
        assert len(grant.nodes) == grant.replicas
        for names in grant.nodes:
            assert len(set(names)) == option.nodes
            for node in map(nodes.__getitem__, names):
                seated[node.name] += option.gpus
                assert (node.healthy, node.accelerator) == (True, grant.accelerator)
                assert node.domain[: len(grant.domain)] == grant.domain
    assert all(gpus <= nodes[name].gpus for name, gpus in seated.items())


@given(inventories(), DISTINCT, st.randoms(use_true_random=False))
def test_4_placement_does_not_depend_on_order(
    inventory: Inventory, asked: list[PlacementRequest], chance: object
) -> None:
    nodes, again = list(inventory.nodes), list(asked)
    chance.shuffle(nodes)  # type: ignore[attr-defined]
    chance.shuffle(again)  # type: ignore[attr-defined]
    other = replace(inventory, nodes=tuple(nodes))

    def placed(wanted: list[PlacementRequest], held: Inventory) -> PlacementPlan:
        return place(wanted, held, build_tree(held, LEVELS), ())

    assert placed(again, other) == placed(asked, inventory)


ROLES = ("prefill", "decode")
WILL_SERVE = ("ready", "ready", "ready", "starting", "held", "pending")
SHAPES = st.lists(
    st.tuples(
        st.sampled_from("abcd"),
        st.sampled_from(("east", "west")),
        st.sampled_from(ROLES),
        st.sampled_from(WILL_SERVE),
        st.sampled_from((H20, AcceleratorOption(type="L20", gpus=4, capacity=0.55))),
    ),
    max_size=24,
)
LARGE = AcceleratorOption(type="B200", gpus=8, capacity=2.0)


@st.composite
def removals(draw: st.DrawFn) -> PlacementRequest:
    """Draw a service of up to eight groups that is asked to shrink."""
    second = draw(st.sampled_from((OPTIONS[1], LARGE)))
    roles = tuple(
        build_role(role, share=draw(st.integers(1, 4)), accelerators=(H20, second))
        for role in ROLES
    )
    instances = [
        replace(
            build_instances(role, 1, InstanceState(state), group=group, first=number)[0],
            uid=f"u{number:02d}",
            subcluster=subcluster,
            accelerator=option.type if option == H20 else second.type,
        )
        for number, (group, subcluster, role, state, option) in enumerate(draw(SHAPES))
    ]
    return PlacementRequest(
        spec=build_service(roles=roles),
        snapshot=build_snapshot(instances=instances, group_roles=()),
        remove={role: draw(st.integers(0, 8)) for role in ROLES},
    )


@given(removals())
def test_11_a_removal_leaves_groups_whole(asked: PlacementRequest) -> None:
    gone = set(victims(asked))
    before: dict[tuple[str, str], set[str]] = {}
    after: dict[tuple[str, str], set[str]] = {}
    taken: Counter[str] = Counter()
    worth = asked.spec.group.worth()
    for one in asked.snapshot.instances:
        key = (one.subcluster, one.group)
        before.setdefault(key, set()).add(one.role)
        if one.uid in gone:
            taken[one.role] += round(100 * worth[one.role, one.accelerator])
        else:
            after.setdefault(key, set()).add(one.role)
    assert all(after.get(key, set()) in (set(), had) for key, had in before.items() if len(had) > 1)
    for role in ROLES:
        assert taken[role] <= 100 * asked.remove[role]
        ready = {
            one.uid
            for one in asked.snapshot.instances
            if (one.role, one.state) == (role, InstanceState.READY)
        }
        assert not ready or ready - gone


@settings(max_examples=8)
@given(
    st.sampled_from(((3, 1), (1, 1), (1, 4), (2, 3))),
    st.sampled_from((6, 8, 16)),
    st.lists(st.tuples(st.floats(500.0, 25_000.0), st.integers(30, 80)), min_size=2, max_size=3),
)
def test_12_many_small_domains_settle_with_every_group_whole(
    shares: tuple[int, int], size: int, phases: list[tuple[float, int]]
) -> None:
    guard = replace(GUARD, step_in=0.3, cool_down_in_s=60.0, cool_down_out_s=30.0)
    offered = ProportionalSpec(signal=Signal.OFFERED_TPS, role="decode", target=1000.0)
    spec = build_service(
        prefill=shares[0],
        decode=shares[1],
        guard=guard,
        lifecycle=LIFECYCLE,
        proportional=(offered,),
    )
    spec = replace(spec, group=replace(spec.group, within="S2"))
    run = Run(spec, replicas=0, nodes=0)
    run.fleet = replace(run.fleet, levels=("S2",))
    nodes = [build_nodes(size, domain=("east", f"s{number:02d}")) for number in range(12)]
    run.world.inventory = build_inventory(*(node for each in nodes for node in each))
    for load_tps, ticks in (*phases, (4000.0, 200)):
        for _ in range(ticks):
            run.tick(None, offered_tps=load_tps)
    groups: dict[str, set[str]] = {}
    for one in run.world.instances.values():
        groups.setdefault(one.group, set()).add(one.role)
    assert all(roles == set(ROLES) for roles in groups.values())


#: what is or will be in rotation
SERVING = {"pending", "starting", "ready", "held"}
MAXIMUM = 9


@dataclass(frozen=True)
class Moment:
    """What one tick of a scripted run looks like."""

    load_tps: float
    tbt_s: float
    blind: bool
    answer: OutcomeKind
    minutes: float


MOMENTS = st.lists(
    st.builds(
        Moment,
        load_tps=st.sampled_from((0.0, 1500.0, 2500.0, 3900.0, 6000.0, 30_000.0)),
        tbt_s=st.sampled_from((0.01, 0.01, 0.02, 0.05)),
        blind=st.sampled_from((False, False, False, True)),
        answer=st.sampled_from(
            (OutcomeKind.APPLIED, OutcomeKind.APPLIED, OutcomeKind.REFUSED, OutcomeKind.UNKNOWN)
        ),
        minutes=st.sampled_from((0.25, 0.25, 0.25, 3.0, 11.0)),
    ),
    max_size=25,
)


def readings(moment: Moment) -> list[Reading]:
    """Build the readings of a moment; blind, the time between tokens is unknown."""
    seen = build_readings(moment.load_tps, tbt_s=moment.tbt_s)
    return [unknown(r) if moment.blind and r.signal is Signal.TBT else r for r in seen]


def scaled_in(made: Plan) -> bool:
    """Return whether anything begins to leave."""
    return any(action.effect is Effect.IN for action in made.actions)


@settings(max_examples=60)
@given(MOMENTS)
def test_5_to_10_a_scripted_run(moments: list[Moment]) -> None:
    bounded = tuple(replace(role, max_replicas=MAXIMUM) for role in CHAT.group.roles)
    run = Run(replace(CHAT, group=replace(CHAT.group, roles=bounded)), nodes=16)
    for moment in moments:
        waiting = run.now_s < run.chat.scale_in_until_s
        made = run.look_at(readings(moment))
        check_reasons(made)
        if scaled_in(made):
            assert not moment.blind
            # Settling may have given a wait back in this very tick, so the one in force counts.
            assert not (waiting and run.now_s < run.chat.scale_in_until_s)
        run.send(*made.actions, answer=moment.answer)
        repeat(run.world, made, run.now_s)
        run.now_s += 60.0 * moment.minutes - 15.0
        check_world(run.world)
    for _ in range(60):
        made = run.tick(3000.0, tbt_s=0.02)
        check_reasons(made)
    passing = {
        uid: run.now_s - one.since_s
        for uid, one in run.world.instances.items()
        if one.state.value in {"withdrawn", "draining", "held"}
    }
    # Watched for one minute, held for a minute and a half at most, and a tick to see each end.
    assert all(age_s <= 135.0 for age_s in passing.values())
    run.look(3000.0)
    leaving = {
        uid
        for uid, one in run.world.instances.items()
        if one.state.value in {"withdrawn", "draining"}
    }
    assert (set(run.chat.observed_s), run.chat.pending) == (leaving, ())


def repeat(world: World, made: Plan, now_s: float) -> None:
    """Apply again what was applied; nothing may come of it."""
    before = (dict(world.counts), dict(world.instances))
    for action in made.actions:
        if action.id in world.applied:
            assert world.apply(action, now_s).kind is OutcomeKind.APPLIED
    assert (world.counts, world.instances) == before


def check_reasons(made: Plan) -> None:
    """Every service that changes says why in a step of placing or of the lifecycle."""
    changing = {action.service for action in made.actions}
    for decision in made.decisions:
        steps = {reason.step for reason in decision.reasons}
        assert decision.reasons
        if decision.service in changing:
            assert steps & {Step.PLACE, Step.LIFECYCLE}


def check_world(world: World) -> None:
    """What serves or will serve is within bounds, and no node is given out twice."""
    for role in ("prefill", "decode"):
        states = world.states("chat", role)
        assert 1 <= sum(state in SERVING for state in states) <= MAXIMUM
    nodes = [name for one in world.instances.values() for name in one.nodes]
    assert len(nodes) == len(set(nodes))


@settings(max_examples=20)
@given(st.permutations(range(5)), st.sampled_from((1500.0, 4000.0, 9000.0)))
def test_4_a_plan_does_not_depend_on_order(order: list[int], load_tps: float) -> None:
    specs = [
        build_service(f"s{i}", priority=i % 2, guard=GUARD, lifecycle=LIFECYCLE) for i in range(5)
    ]
    run = Run(*specs, replicas=3, nodes=36)
    run.look(load_tps)
    every = {spec.name: build_readings(load_tps) for spec in specs}
    seen = run.world.snapshot(NOW_S, every)
    state = FleetState(services={spec.name: build_state() for spec in specs})
    mixed = Snapshot(
        now_s=NOW_S,
        services={specs[i].name: seen.services[specs[i].name] for i in order},
        inventory=replace(seen.inventory, nodes=tuple(reversed(seen.inventory.nodes))),
    )
    fleet = FleetSpec(services=tuple(specs[i] for i in order))
    assert plan(state, mixed, fleet) == plan(state, seen, run.fleet)


NEEDED = (Signal.TPS, Signal.TTFT, Signal.TBT, Signal.QUEUE_LENGTH)


@given(st.sampled_from((0.0, 1500.0, 2500.0)), st.sampled_from(NEEDED))
def test_9_nothing_leaves_while_a_signal_is_unknown(load_tps: float, signal: Signal) -> None:
    run = Run(CHAT)
    seen = [unknown(r) if r.signal is signal else r for r in build_readings(load_tps)]
    made = run.look_at(seen)
    assert made.actions == ()
    assert scaled_in(Run(CHAT).look(load_tps))
