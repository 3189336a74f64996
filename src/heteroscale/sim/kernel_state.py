"""The kernel's memory: which array holds what, and in which column.

Rows, not objects: a request is one row of `slots`, an instance one row of `instances`; queues are
linked through a column. Everything is int64: times in picoseconds, tokens, indices (−1 = none).
Python may write here only between two calls of the kernel.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Int64Array = npt.NDArray[np.int64]
Int32Array = npt.NDArray[np.int32]

NONE = -1
# A time that does not come.
NEVER = 1 << 62
PREFILL = 0
DECODE = 1

# Ways to choose an instance, in the order of `Routing`.
LEAST_LOADED = 0
ROUND_ROBIN = 1
POWER_OF_TWO = 2
PREFIX_AWARE = 3
TOPOLOGY_AWARE = 4

# Directions of an uplink; a transfer crosses those of level l on its ways 2 · l + direction.
OUTWARD = 0
INWARD = 1

# Kinds of events in the heap: their order at one instant. After all of them come the transfers
# whose last byte is sent over shared uplinks, by request, and then an arrival.
KIND_BOUNDARY = 0  # a run of decode steps ends; id = instance
KIND_BATCH_END = 1  # a prefill batch ends; id = instance
KIND_TRANSFER_END = 2  # a request's KV has arrived; id = request
KIND_SHIFT = 56

# Kinds of rows in the log.
LOG_ARRIVED = 0
LOG_REFUSED = 1
LOG_FIRST_TOKEN = 2
LOG_KV_ARRIVED = 3
LOG_JOINED = 4
LOG_FINISHED = 5
LOG_RESTARTED = 6
LOG_PREEMPTED = 7

# Why the kernel returned.
DONE = 0
NEED_ARRIVALS = 1
NEED_SLOTS = 2
NEED_EVENTS = 3
NEED_LOG = 4

# Columns of `scalars`: settings …
G_BUDGET = 0
G_MAX_BATCH = 1
G_LIMIT = 2
G_SLO_TTFT = 3
G_SLO_TBT = 4
G_LOGGING = 5
# … the arrivals …
G_NEXT_ARRIVAL = 6
G_ARRIVALS = 7
G_CLOSED = 8
G_NEXT_REQUEST = 9
# … the plane now …
G_NOW = 10
G_EVENTS = 11
G_FREE_SLOT = 12
G_LIVE = 13
G_LOGGED = 14
G_GROUPS = 15
G_CHANGED = 16  # rotation changed since the kernel last ran
G_IN_ROTATION = 17  # prefill instances
G_LARGEST_KV = 18
G_WAITING = 19  # requests that wait for prefill, anywhere
G_IN_TRANSFER = 20
G_PREFILL_HEAD = 21  # service-level queues
G_PREFILL_TAIL = 22
G_PREFILL_COUNT = 23
G_DECODE_HEAD = 24
G_DECODE_TAIL = 25
G_DECODE_COUNT = 26
# … and what was counted since the start.
G_ARRIVED = 27
G_ARRIVED_INPUT = 28
G_ARRIVED_OUTPUT = 29
G_COMPLETED = 30
G_COMPLETED_INPUT = 31
G_COMPLETED_OUTPUT = 32
G_REFUSED = 33
G_REFUSED_INPUT = 34
G_REFUSED_OUTPUT = 35
G_ATTAINED = 36
G_FIRST_TOKENS = 37
G_JOINS = 38  # joinings of decode batches
G_PREEMPTED = 39
# Settings again: how instances are chosen, and whether KV is reserved (0) or grows (1).
G_ROUTING = 40
G_SEED = 41  # mixed already
G_GROWS = 42
G_SHARED = 43  # whether uplinks are shared
# Bundles of transfers on shared uplinks, and when the next of their transfers has sent all.
G_BUNDLES = 44
G_NEXT_SENT = 45
G_OVERLAP = 46  # share of a transfer's bytes that prefill hides at most, thousandths
G_CACHED = 47  # share of each input that is cached, thousandths
G_CHUNKED = 48  # whether prompts are cut into chunks
# Co-located serving: the time from a request's arrival to an engine's queue …
G_INGRESS = 49
G_AHEAD = 50  # … and whether a step is made up while the one before runs
# P/D serving: how decode instances are chosen, and prefix caches.
G_DECODE_ROUTING = 51
G_BLOCK_TOKENS = 52  # of one block of the prefix caches; 0 = there are none
G_LOOKED_UP = 53  # input tokens of the requests with blocks whose batch has ended …
G_HIT = 54  # … and those of them that were cached
# KV bytes put on the wire, those that have arrived, and those lost with an instance that failed.
G_KV_PUT = 55
G_KV_DELIVERED = 56
G_KV_LOST = 57
G_COLUMNS = 58

# Columns of `slots`.
R_REQUEST = 0  # number of the request in order of arrival; −1 = the slot is free
R_ARRIVAL = 1
R_INPUT = 2
R_OUTPUT = 3
R_FIRST = 4  # time of the first token; −1 = not yet
R_NEXT = 5  # next slot of whatever list this one is in
R_PREFILL = 6
R_DECODE = 7
R_DONE = 8  # tokens generated when it last waited for decode: 1, or more after a preemption
R_LAST = 9  # time of the last of these
R_ORDER = 10  # number of its joining
R_BUNDLE = 11  # bundle in which it sends its KV over shared uplinks; −1 = it does not
R_MARK = 12  # what that bundle has sent for each of its transfers when this one ends, bytes
R_LEFT = 13  # children in the bundle's heap of marks; −1 = none
R_RIGHT = 14
R_CACHED = 15  # input tokens whose KV the prefill instance has already
R_COMPUTED = 16  # in chunks: tokens of the prompt whose KV is there when the batch or step ends
R_BLOCK = 17  # where its blocks begin in `blocks`; −1 = they are not known or not looked for
R_BLOCK_COUNT = 18  # whole ones
R_BEGUN = 19  # when its first prefill batch started
R_COLUMNS = 20

# Columns of `bundles`.
B_ROOT = 0  # slot of the transfer that ends next; −1 = it has none
B_SENT = 1  # bytes sent for each of its transfers, had it been there from the start, until …
B_SINCE = 2  # … this time
B_SLOW = 3  # time per byte from then on, fs
B_DUE = 4  # when its next transfer has sent all
B_AT = 5  # position in `soonest`
B_FAR = 6  # distance between its ends
B_UPLINK = 7  # six columns: number of the domain whose uplink it crosses, by way
B_COLUMNS = 13

# Columns of `instances`.
I_ROLE = 0  # −1 = no instance has this handle
I_GROUP = 1
I_LOCATION = 2  # five columns, widest first
I_BASE = 7
I_PER_UNIT = 8  # prefill: per token; decode: per sequence
I_PER_UNIT2 = 9  # prefill: per pair of a token and one up to it; decode: per KV token
I_HOST = 10
I_KV_CAPACITY = 11
I_KV_BYTES = 12
I_QUEUE_HEAD = 13
I_QUEUE_TAIL = 14
I_QUEUED = 15
I_OUTSTANDING = 16
I_RUNNING = 17  # requests of the running batch
I_BATCH_HEAD = 18  # prefill: the batch; decode: those that joined at the start of this run
I_JOINERS = 19
I_START = 20  # of the batch or run
I_STEP_TIME = 21  # duration of the batch, or of the run's first step
I_HELD = 22  # tokens of the batch, or KV tokens at the start of the run
I_GROWTH = 23  # decode: each step of a run takes this much longer than the one before
I_STEPS = 24  # decode: steps of the run
I_COUNTED = 25  # decode: steps of the run that are already in the counters
I_STEP = 26  # decode: steps before this run, since the instance was made
I_VERSION = 27  # decode: an older boundary event in the heap is void
I_RESERVED = 28
I_TOKENS = 29
I_BUSY = 30
I_HOST_TIME = 31
I_IN_ROTATION = 32  # only what is counted; routing has its own arrays
I_EXTRA = 33  # decode: what the run's first step takes longer, for KV computed anew
I_REDO = 34  # decode: prefill time per token and per squared length
I_REDO2 = 35
I_LINK = 36  # three columns: numbers of its S0, S1 and S2 among the uplinks of that level
I_PER_REQUEST = 39  # prefill: per request of a batch
# Co-located: a step's prompts are in the list of those that join.
I_CLAIMED = 40  # KV tokens set aside for prompts that are not yet computed
I_PARTIAL = 41  # slot of the prompt that is not complete after the batch or last step; −1 = none
I_CHUNK = 42  # prompt tokens of the step
I_COMPUTED = 43  # prompt tokens computed before it
I_HIDDEN_TOKENS = 44  # tokens of a step that are multiplied while the weights are read, and …
I_HIDDEN = 45  # … how much less a prompt's token among them takes
I_SCHEDULED = 46  # when the next step is made up: requests that came until then are considered
I_CACHE_BLOCKS = 47  # prefill: capacity of its prefix cache in blocks; 0 = it has none
I_CACHED = 48  # blocks in it
I_CACHE_MASK = 49  # entries of its table, a power of two, − 1
I_NEWEST = 50  # nodes of its most and least recently used block
I_OLDEST = 51
I_PIECES = 52  # decode: pieces of its step times; the columns hold those of the present batch
I_COLUMNS = 53

# Columns of `pieces`: the least sequences and KV tokens, and the coefficients.
P_SEQUENCES = 0
P_KV_TOKENS = 1
P_BASE = 2
P_PER_SEQUENCE = 3
P_PER_KV_TOKEN = 4
P_COLUMNS = 5

# Columns of `cache_nodes`.
NODE_BLOCK = 0
NODE_NEWER = 1
NODE_OLDER = 2
NODE_COLUMNS = 3

# Columns of `readings` and `totals`, written by `measure`.
V_TOKENS = 0
V_BUSY = 1
V_HOST = 2
V_WAITING = 3
V_RUNNING = 4
V_OUTSTANDING = 5
V_RESERVED = 6
V_USED = 7
V_CAPACITY = 8
V_IN_ROTATION = 9
V_INSTANCES = 10
V_COMPUTED = 11  # co-located
V_COLUMNS = 12


class State(NamedTuple):
    """Every array of one serving plane."""

    scalars: Int64Array
    #: [slot, column]
    slots: Int64Array
    #: [handle, column]
    instances: Int64Array
    #: [handle]: tokens assigned and not finished; its weight in routing
    load: Int64Array
    weight: Int64Array
    #: [handle, piece, column]: of decode step times, where an instance has several
    pieces: Int64Array
    #: [handle, position, (finish step, slot)]: a heap per decode instance
    finish: Int64Array
    #: groups with prefill in rotation, ascending
    open_groups: Int64Array
    #: [group]: of the smooth weighted round robin; prefill weight in rotation
    credit: Int64Array
    group_weight: Int64Array
    #: [role, group] → first position in route[role]; one more column for the end
    route_start: Int64Array
    #: [role, position] → handles in rotation, by group, ascending
    route: Int64Array
    #: [role, group + 1]: where round robin goes on in the route; 0: over all groups
    turn: Int64Array
    #: [(latency, fs per byte), distance]
    network: Int64Array
    #: [(fs per byte, that of the fastest transfer that crosses it), level S0 to S2]
    uplink_times: Int64Array
    #: [number of the domain, way, (transfers that cross its uplink, the first of their bundles)]
    uplinks: Int64Array
    #: [bundle, column]; [bundle, way, (next, former)]: the bundles of each uplink, linked
    bundles: Int64Array
    beside: Int64Array
    #: [position]: bundles in use, a heap by their next ends; then those that are free
    soonest: Int64Array
    #: [position, (time, kind and id, version or slot)]: the heap of events
    events: Int64Array
    #: lower edges of the buckets, and counts by bucket
    edges: Int64Array
    ttft: Int64Array
    tbt: Int64Array
    #: [row, (time, kind, request, instance)]
    log: Int64Array
    #: [handle, column], [role, column]; the total capacity is that of the instances in rotation
    readings: Int64Array
    totals: Int64Array
    #: the current chunk
    arrival: Int64Array
    input_tokens: Int32Array
    output_tokens: Int32Array
    #: [request of the chunk] → first of its blocks, and one more for the end
    block_starts: Int64Array
    #: ids of the blocks of live requests, then of the chunk's
    blocks: Int64Array
    #: [handle, entry]: node + 1 of a block in a prefix cache; 0 = free
    cache_table: Int64Array
    #: [handle, node, (block, next newer node, next older node)]
    cache_nodes: Int64Array
