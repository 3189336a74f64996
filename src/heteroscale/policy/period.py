"""The calendar of schedules: which recurring periods are in force, and what they set.

Local time comes from offsets that are handed in; the core knows no time zones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from heteroscale.entities.policy import ScheduleSpec
from heteroscale.entities.service import RolePath, ServiceSpec
from heteroscale.policy.ratio import of_schedule

DAY_S = 86_400
#: 1 January 1970 was a Thursday, day 4 of an ISO week
EPOCH_ISO_WEEKDAY = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """What the schedules say at one instant."""

    #: the schedule that asks for most now; None = none in force asks for capacity
    name: str | None = None
    #: anchor capacity it asks for
    demand: float = 0.0
    #: top-level role → share that is in force; None = none sets one
    ratio: Mapping[RolePath, int] | None = None
    #: (schedule, time zone) whose local time is unknown, sorted
    unknown: tuple[tuple[str, str], ...] = ()


#: Outside every period.
NO_PERIOD = Period()


def is_in_force(schedule: ScheduleSpec, now_s: float, utc_offset_s: int) -> bool:
    """Return whether the schedule's period covers this instant.

    The weekday is the one on which the period starts; equal start and end mean a full day.
    """
    local_s = now_s + utc_offset_s
    day = int(local_s // DAY_S)
    second = local_s - day * DAY_S
    length_s = schedule.end_s - schedule.start_s
    if length_s <= 0:
        length_s += DAY_S
    # A period is at most a day long and starts by midnight, so only yesterday's can still run.
    for start_day, elapsed_s in ((day, second), (day - 1, second + DAY_S)):
        weekday = (start_day + EPOCH_ISO_WEEKDAY - 1) % 7 + 1
        if weekday in schedule.days and 0 <= elapsed_s - schedule.start_s < length_s:
            return True
    return False


def period_at(
    spec: ServiceSpec,
    now_s: float,
    utc_offsets_s: Mapping[str, int],
    ratio: Mapping[RolePath, int],
) -> Period:
    """Return what the schedules set now; the greatest demand wins, ties by name.

    Args:
        ratio: top-level role → share in force without schedules; converts a schedule's count of
            another role into anchor capacity where the schedule sets no ratio of its own.
    """
    unknown: list[tuple[str, str]] = []
    in_force: list[tuple[float, str, ScheduleSpec]] = []
    for schedule in spec.policy.schedules:
        offset_s = utc_offsets_s.get(schedule.timezone)
        if offset_s is None:
            unknown.append((schedule.name, schedule.timezone))
        elif is_in_force(schedule, now_s, offset_s):
            in_force.append((-_anchor_demand(spec, schedule, ratio), schedule.name, schedule))
    if not in_force and not unknown:
        return NO_PERIOD
    in_force.sort(key=lambda entry: entry[:2])
    asking = [entry for entry in in_force if entry[0] < 0.0]
    setting = [
        shares
        for _, _, schedule in in_force
        if (shares := of_schedule(spec.group, schedule)) is not None
    ]
    return Period(
        name=asking[0][1] if asking else None,
        demand=-asking[0][0] if asking else 0.0,
        ratio=setting[0] if setting else None,
        unknown=tuple(sorted(unknown)),
    )


def _anchor_demand(
    spec: ServiceSpec, schedule: ScheduleSpec, ratio: Mapping[RolePath, int]
) -> float:
    """Return the anchor capacity a schedule asks for; 0 = it asks for none."""
    anchor = spec.policy.anchor
    if anchor in schedule.replicas:
        return float(schedule.replicas[anchor])
    weights = spec.group.weights(of_schedule(spec.group, schedule) or ratio)
    return max(
        (count * weights[anchor] / weights[role] for role, count in schedule.replicas.items()),
        default=0.0,
    )
