"""How a serving plane serves where there is a choice: names for Python, numbers for the kernel."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Routing(Enum):
    """Which instance of its group a request goes to."""

    #: the least assigned tokens per weight; ties to the lower handle
    LEAST_LOADED = "least_loaded"
    #: one after the other, by handle, whatever their weight
    ROUND_ROBIN = "round_robin"
    #: the less loaded of two that a hash of seed and request number picks
    POWER_OF_TWO = "power_of_two"
    #: prefill only: over all groups, where the least is left to compute with the request per
    #: weight: tokens assigned + its own, less its cached prefix there; ties to the lower handle
    PREFIX_AWARE = "prefix_aware"
    #: decode only: the nearest to its prefill instance of those with at most as many tokens
    #: assigned per weight as the least loaded one would have with a quarter more and the request;
    #: ties to the least loaded, then to the lower handle
    TOPOLOGY_AWARE = "topology_aware"


class KvAdmission(Enum):
    """When a sequence may join a decode batch, by the KV tokens that it needs."""

    #: once all it will ever need is free: input + output; nothing is ever preempted
    RESERVE = "reserve"
    #: once its tokens so far and one step of the whole batch fit. When a step does not fit, those
    #: that joined last are preempted first: KV dropped, back to the head of the queue. The step
    #: that such a sequence joins again computes its KV anew and takes so much longer:
    #: prefill_per_token · t + prefill_per_token2 · t² for its t tokens.
    GROW = "grow"


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefixCache:
    """What a prefill instance keeps of earlier prompts; see `kernel_cache` for its rules."""

    #: length of the blocks that arrivals name, ≥ 1
    block_tokens: int = 512
    #: of each prefill instance, ≥ 0, rounded down to blocks; None = all its KV memory, although
    #: what it computes needs some of it
    capacity_tokens: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingOptions:
    """Choices with a default that suits most planes."""

    #: not TOPOLOGY_AWARE; PREFIX_AWARE only with a prefix cache
    routing: Routing = Routing.LEAST_LOADED
    #: not PREFIX_AWARE; None = as `routing`, or LEAST_LOADED beside PREFIX_AWARE
    decode_routing: Routing | None = None
    #: None = prompts are not compared
    prefix_cache: PrefixCache | None = None
    kv_admission: KvAdmission = KvAdmission.RESERVE
    #: time per byte over one uplink of an S0, S1 and S2 in one direction, ≥ 1: it is shared by the
    #: transfers that cross it. None = transfers do not disturb one another
    uplink_fs_per_byte: tuple[int, int, int] | None = None
    #: 0 to 1000: share of a request's KV that is sent layer by layer while its prefill batch runs,
    #: as far as the batch's time allows at the rate of a transfer alone; what goes ahead crosses
    #: no shared uplink
    overlap_permille: int = 0
    #: 0 to 1000: share of every input that is cached where it is prefilled: rounded down, and at
    #: least one token is computed. A request whose blocks are known to a prefix cache has what is
    #: found there instead
    cached_permille: int = 0
    #: whether a prefill batch is filled to the last token: a prompt that does not fit is cut there
    #: and goes on in the next batch, and has its first token when its last chunk ends. Otherwise a
    #: batch holds whole prompts, and a longer one goes alone
    chunked_prefill: bool = False
    #: of the picks of POWER_OF_TWO, ≥ 0; its lowest 32 bits count
    seed: int = 0
