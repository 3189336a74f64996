"""What holds for every run of the serving plane.

1. The kernel and its one-token-at-a-time twin agree on every event, time, histogram and counter.
2. Arrived = completed + refused + running, in requests, input and output tokens.
3. A request arrives, has its first token, its KV moved, joins and finishes in that order; it joins
   anew after each preemption, and nothing is preempted where KV is reserved.
4. A prefill instance gives first tokens in the order of arrival.
5. KV held never exceeds KV reserved, nor that the capacity; a step's tokens fit before it ends.
6. No instance idles while a request waits on it.
7. Reading, and time let by in pieces, change nothing.
8. KV bytes put on the wire = delivered + lost with failed instances + on the wire.

Each scenario but those of 7 is compared with the twin: 360, with every option in the draw.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

from hypothesis import given, settings
from hypothesis import strategies as st

from heteroscale.sim.serving import KvAdmission, PrefixCache, Routing, ServingOptions
from tests.unit.sim.scenarios import MS, Both, NewInstance, Settings, decode_pieces
from tests.unit.sim.twin_parts import (
    ARRIVED,
    FINISHED,
    FIRST_TOKEN,
    JOINED,
    KV_ARRIVED,
    PREEMPTED,
    REFUSED,
    SENT,
    TRANSFER_END,
    Request,
)

FAR_PS = 1_000_000 * MS


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """Time that passes, then what is changed: rotations, an instance removed, failed, added."""

    wait_ps: int
    rotations: tuple[tuple[int, bool], ...]
    removed: int | None
    added: NewInstance | None
    failed: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """One scenario: the plane, its traffic and what happens to it."""

    settings: Settings
    instances: tuple[NewInstance, ...]
    arrivals: tuple[tuple[int, int, int], ...]
    moments: tuple[Moment, ...]
    #: of each request in turn; of those after the last, none is known
    blocks: tuple[tuple[int, ...], ...] = ()

    @property
    def known(self) -> tuple[tuple[int, ...], ...]:
        """Return the blocks of the requests that there are."""
        rest = len(self.arrivals) - len(self.blocks)
        return (*self.blocks[: len(self.arrivals)], *[()] * rest)


def prompt(root: int, blocks: int, fork: int) -> tuple[int, ...]:
    """Return the ids of a prompt's blocks: those of its root up to a fork, then others."""
    return tuple((root << 33) + at + (100 if at >= fork else 0) for at in range(blocks))


prompts = st.one_of(
    st.builds(prompt, st.integers(0, 1), st.integers(4, 14), st.sampled_from([2, 5, 14])),
    st.lists(st.integers(0, 6), max_size=8).map(tuple),
)
instances = st.builds(
    NewInstance,
    role=st.sampled_from(["prefill", "decode"]),
    group=st.integers(0, 2),
    factor=st.integers(1, 3),
    kv_capacity_tokens=st.integers(200, 1_500) | st.integers(100, 200),
    location=st.tuples(*[st.integers(0, 1)] * 5),
    capacity=st.sampled_from([500, 1_000, 1_500]),
    decode_pieces=st.just(()) | decode_pieces,
)
ANYWHERE = [Routing.LEAST_LOADED, Routing.ROUND_ROBIN, Routing.POWER_OF_TWO]
without_cache = st.builds(
    ServingOptions,
    routing=st.sampled_from(ANYWHERE),
    decode_routing=st.none() | st.sampled_from([*ANYWHERE, Routing.TOPOLOGY_AWARE]),
    kv_admission=st.sampled_from(list(KvAdmission)),
    uplink_fs_per_byte=st.none() | st.tuples(*[st.integers(1, 2_000_000)] * 3),
    overlap_permille=st.just(0) | st.integers(0, 1_000),
    cached_permille=st.just(0) | st.integers(0, 1_000),
    chunked_prefill=st.booleans(),
    seed=st.integers(0, 2**40),
)
with_cache = st.builds(
    replace,
    without_cache,
    routing=st.sampled_from([*ANYWHERE, Routing.PREFIX_AWARE]),
    prefix_cache=st.builds(
        PrefixCache,
        block_tokens=st.sampled_from([16, 50]),
        capacity_tokens=st.none() | st.integers(0, 300),
    ),
)
lengths = st.one_of(
    st.tuples(st.integers(1, 700), st.one_of(st.just(1), st.integers(2, 60))),
    # Several of these fit the smallest KV at first, and not when they end.
    st.tuples(st.integers(1, 50), st.integers(30, 60)),
)


def one_after_the_other(rows: list[tuple[int, int, int]]) -> tuple[tuple[int, int, int], ...]:
    """Return requests by arrival from requests by the gap before each."""
    times = accumulate(gap for gap, _, _ in rows)
    return tuple(
        (at, inputs, outputs) for at, (_, inputs, outputs) in zip(times, rows, strict=True)
    )


@st.composite
def traffic(draw: st.DrawFn, least: int = 0) -> tuple[tuple[int, int, int], ...]:
    """Draw requests at whole and odd times, several at one instant among them."""
    most_ms = draw(st.sampled_from([4, 40]))
    gaps = st.one_of(
        st.just(0), st.integers(0, most_ms * MS), st.integers(0, most_ms).map(lambda ms: ms * MS)
    )
    now_ps = 0
    rows = []
    for gap, (inputs, outputs) in draw(
        st.lists(st.tuples(gaps, lengths), min_size=least, max_size=30)
    ):
        now_ps += gap
        rows.append((now_ps, inputs, outputs))
    return tuple(rows)


moments = st.builds(
    Moment,
    wait_ps=st.integers(0, 200 * MS),
    rotations=st.lists(st.tuples(st.integers(0, 9), st.booleans()), max_size=3).map(tuple),
    removed=st.none() | st.integers(0, 9),
    added=st.none() | instances,
)
failing = st.builds(replace, moments, failed=st.none() | st.integers(0, 9))
limits = st.builds(
    Settings,
    budget=st.integers(1, 1_500),
    max_batch=st.integers(1, 6),
    limit=st.integers(1, 5),
    slo_ttft_ms=st.integers(10, 200),
    slo_tbt_ms=st.integers(5, 15),
    options=without_cache,
)
plain_scripts = st.builds(
    Script,
    settings=limits,
    instances=st.lists(instances, max_size=6).map(tuple),
    arrivals=traffic(),
    moments=st.lists(moments, max_size=8).map(tuple),
)
sharing_scripts = st.builds(
    replace,
    plain_scripts,
    settings=st.builds(replace, limits, options=with_cache),
    arrivals=traffic(least=10),
    blocks=st.lists(prompts, min_size=10, max_size=30).map(tuple),
)
scripts = plain_scripts | sharing_scripts
failing_scripts = st.builds(
    replace, scripts, moments=st.lists(failing, min_size=1, max_size=8).map(tuple)
)

# Racks with slow uplinks under requests that come all the time: when instances fail, KV is under
# way to and from them, beside other KV.
slow_uplinks = st.tuples(*[st.integers(20_000_000, 400_000_000)] * 3)
both_roles = st.tuples(
    *[st.builds(replace, instances, role=st.just(role)) for role in ["prefill", "decode"] * 3]
)
crowded_scripts = st.builds(
    replace,
    scripts,
    settings=st.builds(
        Settings,
        budget=st.integers(100, 1_500),
        limit=st.just(30),
        options=st.builds(replace, without_cache | with_cache, uplink_fs_per_byte=slow_uplinks),
    ),
    instances=both_roles,
    arrivals=st.lists(
        st.tuples(st.integers(0, 10 * MS), st.integers(100, 700), st.integers(2, 20)),
        min_size=12,
        max_size=30,
    ).map(one_after_the_other),
    moments=st.lists(
        st.builds(
            Moment,
            wait_ps=st.integers(5 * MS, 60 * MS),
            rotations=st.just(()),
            removed=st.none(),
            added=st.none() | instances,
            failed=st.integers(0, 9),
        ),
        min_size=3,
        max_size=8,
    ).map(tuple),
)


def play(script: Script, *, checked: bool = True) -> Both:
    """Play a script to its end, with one able instance of each role added last."""
    both = Both(script.settings)
    both.give(list(script.arrivals), blocks=script.known, chunk=4)
    handles = [both.add(new) for new in script.instances]
    for moment in script.moments:
        both.advance(both.twin.now + moment.wait_ps)
        if checked:
            both.check()
            steady(both)
        for at, in_rotation in moment.rotations:
            if handles:
                both.rotate(handles[at % len(handles)], in_rotation)
        if moment.removed is not None and handles:
            at = moment.removed % len(handles)
            if both.remove_if_idle(handles[at]):
                handles.pop(at)
        if moment.failed is not None and handles:
            both.fail(handles.pop(moment.failed % len(handles)))
            both.check()
            steady(both)
        if moment.added is not None:
            handles.append(both.add(moment.added))
    both.advance(both.twin.now + 300 * MS)
    both.add(NewInstance(role="prefill"))
    both.add(NewInstance(role="decode"))
    both.advance(FAR_PS)
    both.check()
    steady(both)
    return both


def steady(both: Both) -> None:
    """Assert properties 2, 5, 6 and 8 at the present moment."""
    counters = both.kernel.counters(both.twin.now)
    gone = {row[2] for row in both.twin.log if row[1] in (FINISHED, REFUSED)}
    live = [r for r in both.twin.begun() if r.number not in gone]
    for field, running in (
        ("requests", len(live)),
        ("input_tokens", sum(r.inputs for r in live)),
        ("output_tokens", sum(r.outputs for r in live)),
    ):
        completed = getattr(counters.completed, field)
        refused = getattr(counters.refused, field)
        assert getattr(counters.arrived, field) == completed + refused + running
    moving = [event[3] for event in both.twin.events if event[1] in (SENT, TRANSFER_END)]
    senders = [(r, r.source) for r in moving if isinstance(r, Request) and r.source]
    under_way = sum(r.inputs * source.speed.kv_bytes_per_token for r, source in senders)
    ended = counters.kv_delivered_bytes + counters.kv_lost_bytes
    assert counters.kv_put_bytes == ended + under_way
    for handle, instance in both.twin.instances.items():
        reading = both.kernel.instance_counters(handle)
        assert reading.kv_used_tokens <= reading.kv_reserved_tokens <= reading.kv_capacity_tokens
        assert reading.running > 0 or reading.waiting == 0, instance
        held = reading.kv_used_tokens if instance.prefill else instance.used + len(instance.batch)
        assert held <= instance.kv_capacity


def times_by_request(log: Sequence[Sequence[int]]) -> dict[int, dict[int, int]]:
    """Return request → kind of event → its first time; it joins once more than it is preempted."""
    times: dict[int, dict[int, int]] = {}
    preempted: set[int] = set()
    for time_ps, kind, request, _ in log:
        mine = times.setdefault(request, {})
        if kind == PREEMPTED:
            assert JOINED in mine
            assert request not in preempted
            preempted.add(request)
        elif kind == JOINED and request in preempted:
            preempted.remove(request)
        else:
            assert kind not in mine
            mine[kind] = time_ps
    assert not preempted
    return times


@settings(max_examples=200, deadline=None)
@given(scripts | failing_scripts)
def test_1_2_5_6_kernel_and_twin_agree_and_every_moment_is_sound(script: Script) -> None:
    both = play(script)
    assert both.kernel.idle


@settings(max_examples=40, deadline=None)
@given(scripts)
def test_3_every_request_goes_forward_only(script: Script) -> None:
    both = play(script, checked=False)
    log = both.kernel.event_log().tolist()
    assert [row[0] for row in log] == sorted(row[0] for row in log)
    times = times_by_request(log)
    assert script.settings.options.kv_admission is KvAdmission.GROW or all(
        row[1] != PREEMPTED for row in log
    )
    assert sorted(times) == list(range(len(script.arrivals)))
    for request, (arrival_ps, _, outputs) in enumerate(script.arrivals):
        mine = times[request]
        if REFUSED in mine:
            assert mine == {REFUSED: arrival_ps}
        elif outputs == 1:
            assert mine == {
                ARRIVED: arrival_ps,
                FIRST_TOKEN: mine[FINISHED],
                FINISHED: mine[FINISHED],
            }
            assert mine[FINISHED] > arrival_ps
        else:
            assert mine[ARRIVED] == arrival_ps < mine[FIRST_TOKEN] <= mine[KV_ARRIVED]
            assert mine[KV_ARRIVED] <= mine[JOINED] < mine[FINISHED]


@settings(max_examples=40, deadline=None)
@given(scripts)
def test_4_prefill_is_first_come_first_served_per_instance(script: Script) -> None:
    both = play(script, checked=False)
    served: dict[int, list[int]] = {}
    for _, kind, request, instance in both.kernel.event_log().tolist():
        if kind == FIRST_TOKEN:
            served.setdefault(instance, []).append(request)
    for requests in served.values():
        assert requests == sorted(requests)


@settings(max_examples=80, deadline=None)
@given(crowded_scripts)
def test_8_kv_bytes_are_conserved_when_instances_fail_on_crowded_uplinks(script: Script) -> None:
    play(script)


@settings(max_examples=40, deadline=None)
@given(scripts, st.lists(st.integers(0, 1_500 * MS), max_size=12))
def test_7_reading_and_pausing_change_nothing(script: Script, pauses: list[int]) -> None:
    whole, pieces = Both(script.settings), Both(script.settings)
    for both, chunk in ((whole, 1_000), (pieces, 3)):
        both.give(list(script.arrivals), blocks=script.known, chunk=chunk)
        for new in script.instances:
            both.add(new)
    for pause_ps in sorted(pauses):
        pieces.advance(pause_ps)
        pieces.check()
    whole.advance(2_000 * MS)
    pieces.advance(2_000 * MS)
    assert pieces.kernel.event_log().tolist() == whole.kernel.event_log().tolist()
    assert pieces.kernel.counters(2_000 * MS) == whole.kernel.counters(2_000 * MS)
    assert pieces.kernel.tbt_histogram().tolist() == whole.kernel.tbt_histogram().tolist()
