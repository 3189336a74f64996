"""Every reason code and its one text. Text is made here and nowhere else."""

from __future__ import annotations

from enum import StrEnum

from heteroscale.entities.decision import Reason


class ReasonCode(StrEnum):
    """Fixed words for why a step changed, kept or refused something."""

    # signal
    UNKNOWN = "unknown"
    TIMEZONE_UNKNOWN = "timezone_unknown"
    CENSORED = "censored"
    NOT_LOW = "not_low"
    NOTHING_READY = "nothing_ready"
    FOREIGN_ACCELERATOR = "foreign_accelerator"
    # recommend
    PROPORTIONAL = "proportional"
    FEEDBACK_OUT = "feedback_out"
    FEEDBACK_WAITS = "feedback_waits"
    FEEDBACK_HOLD = "feedback_hold"
    FEEDBACK_IN = "feedback_in"
    SCHEDULE = "schedule"
    NOTHING_ASKED = "nothing_asked"
    # guard
    WITHIN_TOLERANCE = "within_tolerance"
    WINDOW = "window"
    WINDOW_FILLING = "window_filling"
    ROUNDED_AWAY = "rounded_away"
    DAMPED = "damped"
    STEP_LIMIT = "step_limit"
    SCALE_OUT = "scale_out"
    SCALE_IN = "scale_in"
    COOL_DOWN_OUT = "cool_down_out"
    COOL_DOWN_IN = "cool_down_in"
    PAUSED_OUT = "paused_out"
    PAUSED_IN = "paused_in"
    FROZEN = "frozen"
    PINNED = "pinned"
    BELOW_MINIMUM = "below_minimum"
    ABOVE_MAXIMUM = "above_maximum"
    # brake
    BRAKE_SHARE = "brake_share"
    BRAKE_GPUS = "brake_gpus"
    BRAKE_GPUS_CAP = "brake_gpus_cap"
    BRAKE_GPUS_ONE = "brake_gpus_one"
    # coordinate
    RATIO_CHANGED = "ratio_changed"
    RATIO_SHARE_MOVED = "ratio_share_moved"
    FOLLOWS = "follows"
    SHORT = "short"
    SHORT_WAITS = "short_waits"
    SURPLUS = "surplus"
    SURPLUS_WAITS = "surplus_waits"
    SURPLUS_ROUNDED = "surplus_rounded"
    MOVE_LIMITED = "move_limited"
    RATIO_BROKEN = "ratio_broken"
    # place
    PLACED = "placed"
    NO_FIT = "no_fit"
    COMING = "coming"
    # make way
    GIVES_WAY = "gives_way"
    WAY_ENDED = "way_ended"
    WAY_MADE = "way_made"
    WAY_COMING = "way_coming"
    WAY_QUEUED = "way_queued"
    WAY_LATER = "way_later"
    WAY_NONE = "way_none"
    # relocation
    RELOCATES = "relocates"
    RELOCATION_WAITS = "relocation_waits"
    RELOCATION_LEAVES = "relocation_leaves"
    RELOCATED = "relocated"
    RELOCATION_OVERTAKEN = "relocation_overtaken"
    RELOCATION_CALLED_OFF = "relocation_called_off"
    RELOCATION_HELD = "relocation_held"
    RELOCATION_LOST = "relocation_lost"
    # lifecycle
    ADOPTED = "adopted"
    AWAITING_OUTCOME = "awaiting_outcome"
    OUT_OF_REACH = "out_of_reach"
    NEVER_SEEN = "never_seen"
    WITHDRAWN = "withdrawn"
    CALLED_OFF = "called_off"
    CALLED_OFF_UNPLACED = "called_off_unplaced"
    RESTORED_SLO = "restored_slo"
    RESTORED_UNKNOWN = "restored_unknown"
    RESTORED_CANCELLED = "restored_cancelled"
    RESTORED_DEMAND = "restored_demand"
    DRAINED = "drained"
    TERMINATED_IDLE = "terminated_idle"
    TERMINATED_TIMEOUT = "terminated_timeout"
    REMOVED_FAILED = "removed_failed"
    REMOVED_PLAINLY = "removed_plainly"
    GATE_HELD = "gate_held"
    GATE_RELEASED = "gate_released"
    GATE_TIMED_OUT = "gate_timed_out"
    GATE_PARTNER_CANNOT_COME = "gate_partner_cannot_come"


#: code → text with the reason's figures by name
TEXTS: dict[ReasonCode, str] = {
    ReasonCode.UNKNOWN: "{signal} of {role} is unknown ({cause}): nothing is scaled in meanwhile",
    ReasonCode.TIMEZONE_UNKNOWN: "the local time of schedule {schedule} is unknown (zone"
    " {timezone}): nothing is scaled in meanwhile",
    ReasonCode.CENSORED: "{signal} of {role} is {value:.4g}, above {limit:.4g}: the service is"
    " saturated, so what it serves is less than what is asked of it; nothing is scaled in",
    ReasonCode.NOT_LOW: "{signal} of {role} is {value:.4g}, above the {limit:.4g} up to which"
    " scale-in is allowed",
    ReasonCode.NOTHING_READY: "no {role} is ready: the {held:.4g} units asked for are kept",
    ReasonCode.FOREIGN_ACCELERATOR: "{replicas} {role} run on {accelerator}, which the service does"
    " not list: they count as no capacity",
    ReasonCode.PROPORTIONAL: "{signal} of {role} is {load:,.6g} against a target of {target:,.6g}"
    " per unit: {demand:.2f} units asked for",
    ReasonCode.FEEDBACK_OUT: "{signal} of {role} is at {ratio:.0%} of its SLO: {step:.0%} more,"
    " {demand:.2f} units asked for",
    ReasonCode.FEEDBACK_WAITS: "{signal} of {role} is at {ratio:.0%} of its SLO, but the last"
    " step is not felt yet: {ready:.4g} of {step_to:.4g} units ready, waiting {left_s:.0f} s more"
    " at most",
    ReasonCode.FEEDBACK_HOLD: "{signal} of {role} is at {ratio:.0%} of its SLO, above the"
    " {low:.0%} up to which scale-in is allowed",
    ReasonCode.FEEDBACK_IN: "{signal} has been low for {low_s:.0f} s: {step:.0%} less, {demand:.2f}"
    " units asked for",
    ReasonCode.SCHEDULE: "schedule {schedule} asks for {demand:.4g} units",
    ReasonCode.NOTHING_ASKED: "nothing asks for a change: the {supply:.4g} units stay",
    ReasonCode.WITHIN_TOLERANCE: "{demand:.2f} units are within tolerance of the {supply:.4g}"
    " supplied",
    ReasonCode.WINDOW: "{highest:.2f} units were needed {ago_s:.0f} s ago: no scale-in below that"
    " for {window_s:.0f} s, and {supply:.4g} are supplied",
    ReasonCode.WINDOW_FILLING: "recommendations have been seen without a gap for {fed_s:.0f} s"
    " only: no scale-in before {window_s:.0f} s",
    ReasonCode.ROUNDED_AWAY: "{demand:.2f} of {supply:.4g} units would do, less than one instance"
    " ({smallest:.4g} units) to give back after rounding up",
    ReasonCode.DAMPED: "a change of {change:.2f} units is damped by {damping:.4g} to {damped:.2f}",
    ReasonCode.STEP_LIMIT: "a change of {change:.2f} units is limited to {limit:.2f},"
    " {step:.0%} of the supply",
    ReasonCode.SCALE_OUT: "scale out from {supply:.4g} to {capacity} units (rounded up),"
    " {demand:.2f} asked for",
    ReasonCode.SCALE_IN: "scale in from {supply:.4g} to {capacity} units (rounded up),"
    " {demand:.2f} asked for",
    ReasonCode.COOL_DOWN_OUT: "scale-out waits {left_s:.0f} s more after the last change",
    ReasonCode.COOL_DOWN_IN: "scale-in waits {left_s:.0f} s more after the last change",
    ReasonCode.PAUSED_OUT: "scale-out is paused by the operator",
    ReasonCode.PAUSED_IN: "scale-in is paused by the operator",
    ReasonCode.FROZEN: "the fleet is frozen by the operator: nothing changes",
    ReasonCode.PINNED: "{role} is pinned at {pin} units by the operator",
    ReasonCode.BELOW_MINIMUM: "{capacity} units of {role} would be below its minimum of {minimum}",
    ReasonCode.ABOVE_MAXIMUM: "{capacity} units of {role} would be above its maximum of {maximum}",
    ReasonCode.BRAKE_SHARE: "{asking} of {services} services ask for scale-in at once, more than"
    " {share:.0%}: likelier a fault of what we see than the truth, so all of them hold",
    ReasonCode.BRAKE_GPUS: "{left} GPUs left the fleet within the hour and {budget:.0f} more may:"
    " scale-in holds",
    ReasonCode.BRAKE_GPUS_CAP: "{left} GPUs left the fleet within the hour and {budget:.0f} more"
    " may: scale-in to {capacity} units instead of {asked}",
    ReasonCode.BRAKE_GPUS_ONE: "{budget:.0f} GPUs may leave the fleet within the hour, fewer than"
    " the {unit:.0f} of one unit: as none has left, one unit goes all the same, to {capacity}",
    ReasonCode.RATIO_CHANGED: "the ratio changes from {before} to {after}: counts follow step by"
    " step",
    ReasonCode.RATIO_SHARE_MOVED: "the measured mix of tokens moves one of {parts} shares from"
    " {giver} (now {giver_share}) to {taker} (now {taker_share})",
    ReasonCode.FOLLOWS: "{role} follows from {supply:.4g} to {capacity} units: {exact:.2f} is its"
    " exact share, rounded up",
    ReasonCode.SHORT: "{role} has {supply:.4g} units of its exact share of {exact:.2f}: brought to"
    " {capacity}",
    ReasonCode.SHORT_WAITS: "{role} has {supply:.4g} units of its exact share of {exact:.2f}, and"
    " scale-out must wait",
    ReasonCode.SURPLUS: "{role} has {supply:.4g} units, more than its exact share of {exact:.2f}:"
    " brought to {capacity}",
    ReasonCode.SURPLUS_WAITS: "{role} has {supply:.4g} units, more than its exact share of"
    " {exact:.2f}, and scale-in must wait",
    ReasonCode.SURPLUS_ROUNDED: "{role} has {supply:.4g} units, more than its exact share of"
    " {exact:.2f}, but less than one instance ({smallest:.4g} units) to give back, rounded up",
    ReasonCode.MOVE_LIMITED: "{role} goes to {capacity} units only: its exact share of"
    " {exact:.2f} is approached in bounded moves",
    ReasonCode.RATIO_BROKEN: "{role} gets {capacity} units where the ratio asks for {asked}: the"
    " operator's bound, pin or pause comes first",
    ReasonCode.PLACED: "{replicas} {role} on {accelerator} placed in group {group} at {domain}"
    " ({seats})",
    ReasonCode.NO_FIT: "{capacity} units of {role} fit nowhere; {causes}",
    ReasonCode.COMING: "{units:.4g} units of {role} were asked for before and are waited for",
    ReasonCode.GIVES_WAY: "gives way to {to}: at most {most} units of {role}, until nobody of"
    " higher priority has lacked what is essential to it for {left_s:.0f} s more",
    ReasonCode.WAY_ENDED: "nobody of higher priority lacks what is essential to it any more, or it"
    " may not be limited: at most {most} units of {role} for {to} no longer holds",
    ReasonCode.WAY_MADE: "{missing} of its {essential} essential units of {role} are lacking:"
    " {givers} give way",
    ReasonCode.WAY_COMING: "{missing} of its {essential} essential units of {role} are lacking:"
    " room is being made for them",
    ReasonCode.WAY_QUEUED: "{missing} of its {essential} essential units of {role} are lacking:"
    " too many that are placed before it wait for the same accelerators",
    ReasonCode.WAY_LATER: "{missing} of its {essential} essential units of {role} are lacking:"
    " whether anybody could give way is looked into once fewer before it lack something",
    ReasonCode.WAY_NONE: "{missing} of its {essential} essential units of {role} are lacking, and"
    " no service of lower priority that may give way would make room for them",
    ReasonCode.RELOCATES: "group {group} is to leave a {scarcity} subgroup to others: {new} is"
    " opened in its place first",
    ReasonCode.RELOCATION_WAITS: "group {group} stays until {new}, opened in its place, is ready"
    " and scale-in may be: {left_s:.0f} s more at most",
    ReasonCode.RELOCATION_LEAVES: "{new} has taken the place of group {group}, which leaves",
    ReasonCode.RELOCATED: "group {group} has left a scarce subgroup to others: {new} is in its"
    " place",
    ReasonCode.RELOCATION_OVERTAKEN: "the load has changed: {new} stays beside group {group}, in"
    " whose place it was opened",
    ReasonCode.RELOCATION_CALLED_OFF: "{new} was not ready in time and is gone again: group {group}"
    " stays where it is",
    ReasonCode.RELOCATION_HELD: "group {group} is not relocated any more, as the service is held by"
    " hand or gives way: {new} stays beside it",
    ReasonCode.RELOCATION_LOST: "nothing of {new} has come: group {group} stays where it is",
    ReasonCode.ADOPTED: "someone set {role} from {before} to {after} replicas: taken as it is,"
    " and both waits start anew",
    ReasonCode.AWAITING_OUTCOME: "{actions} changes that were sent are not seen yet:"
    " what they change is left alone until they are",
    ReasonCode.OUT_OF_REACH: "{subcluster} is out of reach: its {replicas} instances stay as they"
    " are",
    ReasonCode.NEVER_SEEN: "{subclusters}: not observed yet, and may hold what is missing:"
    " nothing is added or taken away",
    ReasonCode.WITHDRAWN: "{replicas} {role} leave rotation and are watched",
    ReasonCode.CALLED_OFF: "{replicas} {role} that do not serve yet are called off",
    ReasonCode.CALLED_OFF_UNPLACED: "{replicas} {role} have got no node for too long and are"
    " called off",
    ReasonCode.RESTORED_SLO: "{replicas} {role} come back: latency reached its limit without them",
    ReasonCode.RESTORED_UNKNOWN: "{replicas} {role} come back: latency has been unknown too long",
    ReasonCode.RESTORED_CANCELLED: "{replicas} {role} come back: scale-in was paused on the way",
    ReasonCode.RESTORED_DEMAND: "{replicas} {role} come back: demand returned",
    ReasonCode.DRAINED: "{replicas} {role} were not missed while watched: they finish their"
    " requests",
    ReasonCode.TERMINATED_IDLE: "{replicas} {role} have finished their requests and go",
    ReasonCode.TERMINATED_TIMEOUT: "{replicas} {role} go with requests unfinished: draining took"
    " too long",
    ReasonCode.REMOVED_FAILED: "{replicas} {role} have failed and are removed",
    ReasonCode.REMOVED_PLAINLY: "{replicas} {role} go at once, unwatched: nothing takes them out of"
    " rotation and back",
    ReasonCode.GATE_HELD: "{replicas} {role} wait outside rotation: the other roles of their group"
    " are not as far",
    ReasonCode.GATE_RELEASED: "{replicas} {role} may enter rotation: the other roles have caught"
    " up",
    ReasonCode.GATE_TIMED_OUT: "{replicas} {role} may enter rotation: they have waited long enough",
    ReasonCode.GATE_PARTNER_CANNOT_COME: "{replicas} {role} may enter rotation: what they waited"
    " for cannot come",
}


def describe(reason: Reason) -> str:
    """Return one sentence for an operator at 3 a.m."""
    return TEXTS[ReasonCode(reason.code)].format(**reason.figures)
