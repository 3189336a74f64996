"""Co-located serving in simulated time: one pool of engines that prefill and decode alike.

What P/D serving is compared with. The pool is fixed: every engine is there and in rotation from
the start on; no KV is sent anywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from heteroscale.errors import InvariantViolation
from heteroscale.performance.model import StepCoefficients
from heteroscale.sim.kernel_counters import InstanceCounters, Tally
from heteroscale.sim.kernel_memory import (
    empty_state,
    more_instances,
    write_instance,
    write_options,
    write_routes,
)
from heteroscale.sim.kernel_mixed import measure_mixed, run_mixed
from heteroscale.sim.kernel_options import ServingOptions
from heteroscale.sim.kernel_reading import instance_counters, tally
from heteroscale.sim.kernel_state import (
    DECODE,
    G_AHEAD,
    G_ARRIVED,
    G_ATTAINED,
    G_BUDGET,
    G_CHUNKED,
    G_COMPLETED,
    G_FIRST_TOKENS,
    G_IN_ROTATION,
    G_INGRESS,
    G_LARGEST_KV,
    G_LIMIT,
    G_MAX_BATCH,
    G_PREEMPTED,
    G_REFUSED,
    G_SLO_TBT,
    G_SLO_TTFT,
    V_COMPUTED,
    V_TOKENS,
)
from heteroscale.sim.plane import Plane

_NOWHERE = (0, 0, 0, 0, 0)
_NO_NETWORK = ((0,) * 6, (0,) * 6)


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    """How every engine of the pool makes up its steps."""

    #: tokens of one step: one for each sequence that decodes, the rest for prompts
    token_budget: int
    #: sequences of one step, those whose prompt is under way included; at most the budget
    max_sequences: int
    #: whether a prompt is cut where the budget ends. Otherwise a step computes whole prompts, as
    #: many as the budget allows, its first one in any case
    chunked_prefill: bool = True
    #: time from a request's arrival to an engine's queue (transport, tokenizing), which keeps
    #: nobody else waiting; it counts towards the time to first token
    ingress_ps: int = 0
    #: whether the next step is made up when one starts, not when it ends: then a request that comes
    #: during a step is in the one after the next at the earliest
    schedules_ahead: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolCounters:
    """Everything counted up to `at_ps`; arrived = completed + refused + running, in each field."""

    at_ps: int
    #: at an engine's queue, or refused there
    arrived: Tally
    completed: Tally
    refused: Tally
    #: completed inside both limits, as in P/D serving
    attained: int
    first_tokens: int
    #: times that a request lost its KV for lack of room
    preempted: int
    #: tokens of prompts computed (cached ones are not), and tokens generated, first ones included
    prompt_tokens: int
    generated_tokens: int


class ColocatedServing(Plane):
    """Exact request-level model of one pool of engines that prefill and decode in the same steps.

    A step of n decoding sequences that hold K KV tokens and of chunks of c tokens, each after p
    tokens of its prompt that are there already (cached ones too), takes decode_base +
    decode_per_sequence · n + decode_per_kv_token · K + prefill_per_token · Σc +
    prefill_per_token2 · Σ((p + c)² − p²) + prefill_per_request for each prompt that it completes;
    where decode has pieces, n and K choose among them.

    Args:
        engines: how fast each engine is.
        admission_limit: a request is refused when the requests that wait in queues are at least
            this many per engine. Refused too: input + output tokens above the KV capacity of
            every engine.
        options: routing, KV admission, cached share and seed; what concerns transfers is not
            looked at. Neither prefix caches nor a routing of decode.
        log: keep every visible event (`event_log`); it grows with the trace.

    Raises:
        InvariantViolation: no engine, or settings that no step can keep.
    """

    def __init__(
        self,
        engines: Sequence[StepCoefficients],
        settings: EngineSettings,
        *,
        admission_limit: int,
        slo_ttft_ps: int,
        slo_tbt_ps: int,
        options: ServingOptions,
        log: bool = False,
    ) -> None:
        if not engines:
            raise InvariantViolation("engines: there must be at least one")
        if not 1 <= settings.max_sequences <= settings.token_budget or settings.ingress_ps < 0:
            raise InvariantViolation(
                f"settings: 1 ≤ max_sequences ≤ token_budget and ingress_ps ≥ 0, got {settings}"
            )
        if options.prefix_cache is not None or options.decode_routing is not None:
            raise InvariantViolation(
                "options: a co-located pool has neither prefix caches nor decode to route"
            )
        state = empty_state(_NO_NETWORK, settings.max_sequences)
        while len(state.instances) < len(engines):
            state = more_instances(state)
        for handle, speed in enumerate(engines):
            state = write_instance(state, handle, DECODE, speed, 0, _NOWHERE, 1)
        write_options(state, options)
        state = write_routes(state, set(range(len(engines))))
        scalars = state.scalars
        scalars[G_BUDGET] = settings.token_budget
        scalars[G_MAX_BATCH] = settings.max_sequences
        scalars[G_CHUNKED] = int(settings.chunked_prefill)
        scalars[G_INGRESS] = settings.ingress_ps
        scalars[G_AHEAD] = int(settings.schedules_ahead)
        scalars[G_LIMIT] = admission_limit
        scalars[G_IN_ROTATION] = len(engines)
        scalars[G_SLO_TTFT] = slo_ttft_ps
        scalars[G_SLO_TBT] = slo_tbt_ps
        scalars[G_LARGEST_KV] = max(speed.kv_capacity_tokens for speed in engines)
        super().__init__(state, run_mixed, measure_mixed, log=log)

    def counters(self, at_ps: int) -> PoolCounters:
        """Return the counters at the time last advanced to; `at_ps` must be that time."""
        self._at_now(at_ps)
        self._measure()
        scalars = self._state.scalars.tolist()
        return PoolCounters(
            at_ps=at_ps,
            arrived=tally(scalars, G_ARRIVED),
            completed=tally(scalars, G_COMPLETED),
            refused=tally(scalars, G_REFUSED),
            attained=scalars[G_ATTAINED],
            first_tokens=scalars[G_FIRST_TOKENS],
            preempted=scalars[G_PREEMPTED],
            prompt_tokens=int(self._state.totals[DECODE, V_COMPUTED]),
            generated_tokens=int(self._state.totals[DECODE, V_TOKENS]),
        )

    def engine_counters(self, handle: int) -> InstanceCounters:
        """Return one engine's counters at the time last advanced to."""
        self._measure()
        return instance_counters(self._state.readings[handle])
