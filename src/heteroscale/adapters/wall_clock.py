"""The clock of production: the machine's own time and the IANA time zones."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from heteroscale.errors import ConfigError, Problem


class WallClock:
    """Real time."""

    def now_s(self) -> float:
        """Return epoch seconds."""
        return time.time()

    def utc_offset_s(self, timezone: str, at_s: float) -> int:
        """Return how many seconds east of UTC a zone is at that instant."""
        return zone_offset_s(timezone, at_s)


def steady_s() -> float:
    """Return seconds that nobody sets, from any beginning; a machine asleep counts too."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def zone_offset_s(timezone: str, at_s: float) -> int:
    """Return how many seconds east of UTC an IANA zone is at an instant, for any clock.

    Raises:
        ConfigError: there is no such zone.
    """
    offset = datetime.fromtimestamp(at_s, UTC).astimezone(_zone(timezone)).utcoffset()
    return 0 if offset is None else int(offset.total_seconds())


@lru_cache(maxsize=512)
def _zone(timezone: str) -> ZoneInfo:
    try:
        return ZoneInfo(timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        rule = "must be an IANA time zone such as Asia/Shanghai"
        raise ConfigError([Problem(path="timezone", rule=rule, value=timezone)]) from error
