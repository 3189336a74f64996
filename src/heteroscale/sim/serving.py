"""One service's serving plane in simulated time: instances, queues, tokens and what they measured.

Adds and removes instances between two calls of the event kernel and turns its arrays into values.
It knows no policy, no topology names and no clock but the time it is advanced to.
"""

from __future__ import annotations

import numpy as np

from heteroscale.errors import InvariantViolation
from heteroscale.performance.model import StepCoefficients
from heteroscale.sim.kernel import measure, run
from heteroscale.sim.kernel_cache_memory import write_cache
from heteroscale.sim.kernel_counters import (
    AdvanceStatus as AdvanceStatus,
)
from heteroscale.sim.kernel_counters import (
    Counters as Counters,
)
from heteroscale.sim.kernel_counters import (
    InstanceCounters as InstanceCounters,
)
from heteroscale.sim.kernel_counters import (
    NetworkTable as NetworkTable,
)
from heteroscale.sim.kernel_counters import (
    RoleCounters as RoleCounters,
)
from heteroscale.sim.kernel_counters import (
    Tally as Tally,
)
from heteroscale.sim.kernel_fail import start_over
from heteroscale.sim.kernel_measure import bucket_edges
from heteroscale.sim.kernel_memory import (
    empty_state,
    more_instances,
    write_instance,
    write_options,
    write_routes,
)
from heteroscale.sim.kernel_options import KvAdmission as KvAdmission
from heteroscale.sim.kernel_options import PrefixCache as PrefixCache
from heteroscale.sim.kernel_options import Routing as Routing
from heteroscale.sim.kernel_options import ServingOptions as ServingOptions
from heteroscale.sim.kernel_reading import (
    InstanceColumns,
    instance_columns,
    instance_counters,
    role_counters,
    tally,
)
from heteroscale.sim.kernel_state import (
    DECODE,
    G_ARRIVED,
    G_ATTAINED,
    G_BUDGET,
    G_CHANGED,
    G_COMPLETED,
    G_FIRST_TOKENS,
    G_HIT,
    G_IN_TRANSFER,
    G_KV_DELIVERED,
    G_KV_LOST,
    G_KV_PUT,
    G_LARGEST_KV,
    G_LIMIT,
    G_LOOKED_UP,
    G_MAX_BATCH,
    G_PREEMPTED,
    G_REFUSED,
    G_SLO_TBT,
    G_SLO_TTFT,
    I_IN_ROTATION,
    I_OUTSTANDING,
    I_ROLE,
    NONE,
    V_BUSY,
    V_HOST,
    V_TOKENS,
    Int64Array,
)
from heteroscale.sim.plane import Plane

DEFAULTS = ServingOptions()


class Serving(Plane):
    """Exact request-level model of one prefill/decode service.

    Time moves only in `advance`; every other call happens at the time last advanced to. Changes of
    instances and rotation made between two advances take effect together.

    Args:
        roles: names of the prefill and the decode role.
        prefill_token_budget: input tokens of one prefill batch; a longer request goes alone.
        decode_max_batch: sequences of one decode step.
        admission_limit: a request is refused when the requests that wait for prefill, over the
            whole service, are at least this many per prefill instance in rotation (counted as one
            when none is). Refused too: input + output tokens above the KV capacity of every decode
            instance that was ever added (no such rule before the first).
        slo_ttft_ps: limit of the time to first token.
        slo_tbt_ps: limit of a request's mean gap between tokens.
        options: routing and the like.
        log: keep every visible event (`event_log`); for tests, since it grows with the trace.
    """

    def __init__(
        self,
        *,
        roles: tuple[str, str] = ("prefill", "decode"),
        prefill_token_budget: int,
        decode_max_batch: int,
        admission_limit: int,
        slo_ttft_ps: int,
        slo_tbt_ps: int,
        network: NetworkTable,
        options: ServingOptions = DEFAULTS,
        log: bool = False,
    ) -> None:
        state = empty_state((network.latency_ps, network.fs_per_byte), decode_max_batch)
        super().__init__(state, run, measure, log=log)
        self._roles = roles
        scalars = state.scalars
        scalars[G_BUDGET] = prefill_token_budget
        scalars[G_MAX_BATCH] = decode_max_batch
        scalars[G_LIMIT] = admission_limit
        scalars[G_SLO_TTFT] = slo_ttft_ps
        scalars[G_SLO_TBT] = slo_tbt_ps
        write_options(state, options)
        self._prefix_cache = options.prefix_cache
        self._rotation: set[int] = set()
        self._handles: tuple[set[int], set[int]] = (set(), set())
        # What removed instances had done: [role, (tokens, busy, host)].
        self._retired = np.zeros((2, 3), np.int64)

    def add_instance(
        self,
        role: str,
        coefficients: StepCoefficients,
        *,
        group: int,
        location: tuple[int, int, int, int, int],
        capacity: int = 1000,
        in_rotation: bool = False,
    ) -> int:
        """Return the handle of a new instance: the smallest free one; a removed one's comes back.

        Args:
            group: number ≥ 0 of its deployment group; requests stay in their group where they can.
            location: (sub-cluster, S2, S1, S0, node), widest first; ids need only be unique within
                the wider domain.
            capacity: weight in routing, thousandths of a capacity unit; positive.
        """
        stage = self._roles.index(role)
        free = np.flatnonzero(self._state.instances[:, I_ROLE] == NONE)
        if len(free) == 0:
            free = np.array([len(self._state.instances)])
            self._state = more_instances(self._state)
        handle = int(free[0])
        self._state = write_instance(
            self._state, handle, stage, coefficients, group, location, capacity
        )
        kept_tokens = 0 if stage == DECODE else self._cache_tokens(coefficients)
        self._state = write_cache(self._state, handle, kept_tokens)
        self._handles[stage].add(handle)
        if stage == DECODE:
            scalars = self._state.scalars
            scalars[G_LARGEST_KV] = max(scalars[G_LARGEST_KV], coefficients.kv_capacity_tokens)
        self._measured = False
        if in_rotation:
            self.set_rotation(handle, True)
        return handle

    def set_rotation(self, handle: int, in_rotation: bool) -> None:
        """Give an instance new requests or not; it always finishes what it has."""
        self._role_of(handle)
        if in_rotation == (handle in self._rotation):
            return
        self._rotation ^= {handle}
        self._state.instances[handle, I_IN_ROTATION] = int(in_rotation)
        self._measured = False
        self._state.scalars[G_CHANGED] = 1

    def outstanding(self, handle: int) -> int:
        """Return the requests that an instance still owes something to.

        Prefill: waiting, running, or prefilled with the KV not yet transferred. Decode: inbound,
        waiting or running.
        """
        self._role_of(handle)
        return int(self._state.instances[handle, I_OUTSTANDING])

    def remove(self, handle: int) -> None:
        """Take away an instance that is out of rotation and has nothing outstanding.

        Raises:
            InvariantViolation: it is in rotation or still has requests.
        """
        stage = self._role_of(handle)
        if handle in self._rotation or self.outstanding(handle):
            raise InvariantViolation(
                f"instance {handle}: must be out of rotation and idle to be removed, "
                f"got {self.outstanding(handle)} outstanding"
            )
        self._retire(handle, stage)
        self._state.instances[handle, I_ROLE] = NONE

    def fail(self, handle: int) -> None:
        """Take away an instance at once, in rotation or not, whatever it is doing.

        Its requests start over: they go back to the service-level prefill queue in order of
        arrival, past the admission limit, and their first token counts anew, from the same arrival.
        Work that was done stays counted; KV on its way to or from the instance is lost.
        """
        stage = self._role_of(handle)
        self._retire(handle, stage)
        self._rotation.discard(handle)
        self._state = start_over(self._state, handle)
        self._state.instances[handle, I_ROLE] = NONE

    def advance(self, until_ps: int) -> AdvanceStatus:
        """Let everything up to and including `until_ps` happen, as far as arrivals are known."""
        if self._state.scalars[G_CHANGED]:
            self._state = write_routes(self._state, self._rotation)
        return super().advance(until_ps)

    def counters(self, at_ps: int) -> Counters:
        """Return the counters at the time last advanced to; `at_ps` must be that time."""
        self._at_now(at_ps)
        self._measure()
        scalars = self._state.scalars.tolist()
        return Counters(
            at_ps=at_ps,
            arrived=tally(scalars, G_ARRIVED),
            completed=tally(scalars, G_COMPLETED),
            refused=tally(scalars, G_REFUSED),
            attained=scalars[G_ATTAINED],
            first_tokens=scalars[G_FIRST_TOKENS],
            in_transfer=scalars[G_IN_TRANSFER],
            kv_put_bytes=scalars[G_KV_PUT],
            kv_delivered_bytes=scalars[G_KV_DELIVERED],
            kv_lost_bytes=scalars[G_KV_LOST],
            preempted=scalars[G_PREEMPTED],
            prefix_lookup_tokens=scalars[G_LOOKED_UP],
            prefix_hit_tokens=scalars[G_HIT],
            roles=(
                role_counters(self._state, 0, self._roles[0], self._retired[0]),
                role_counters(self._state, 1, self._roles[1], self._retired[1]),
            ),
        )

    def instance_counters(self, handle: int) -> InstanceCounters:
        """Return one instance's counters at the time last advanced to."""
        self._role_of(handle)
        self._measure()
        return instance_counters(self._state.readings[handle])

    def instance_columns(self, handles: Int64Array) -> InstanceColumns:
        """Return what several instances, which must be there, have counted, an entry each."""
        self._measure()
        return instance_columns(self._state.readings[handles])

    def _role_of(self, handle: int) -> int:
        for stage in (0, 1):
            if handle in self._handles[stage]:
                return stage
        raise InvariantViolation(f"instance {handle}: there is none")

    def _cache_tokens(self, coefficients: StepCoefficients) -> int:
        """Return how many tokens a prefill instance keeps; 0 = no prefix cache."""
        cache = self._prefix_cache
        if cache is None:
            return 0
        capacity = cache.capacity_tokens
        return coefficients.kv_capacity_tokens if capacity is None else capacity

    def _retire(self, handle: int, stage: int) -> None:
        """Keep what an instance that goes has done."""
        self._measure()
        self._retired[stage] += self._state.readings[handle, [V_TOKENS, V_BUSY, V_HOST]]
        self._handles[stage].remove(handle)
        self._measured = False


def histogram_edges_ps() -> Int64Array:
    """Return the lower edge of every bucket, ps; a bucket ends where the next begins."""
    return bucket_edges()
