"""What goes wrong between a controller, the API server and Prometheus, and when, by seed."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np

from tests.cluster.faulty import Asked, Cut, Fault, Late, Refused, Told

#: of the API server
API = (
    "conflicts",
    "too busy",
    "errors",
    "not heard",
    "no answer",
    "slow",
    "watches dropped",
    "down",
    "token expired",
)
#: of Prometheus: while one of these lasts, nothing true is known of a load
LIES = ("empty", "NaN", "zero", "stale", "broken", "silent")
#: all of these are known to be no measurement; that nothing is asked for could be true
UNKNOWN = frozenset(LIES) - {"zero"}
#: share of requests that an episode strikes, where it does not strike all
_OFTEN = 0.5


@dataclass(frozen=True, kw_only=True)
class Episode:
    """One kind of fault for a while; seconds since the world began."""

    kind: str
    from_s: float
    to_s: float

    def covers(self, at_s: float, kinds: Collection[str], grace_s: float = 0.0) -> bool:
        """Return whether it is one of some kinds and lasts at a time, and did so before."""
        # What is stale is known to be so once it is older than its limit.
        grace_s += 6.0 if grace_s and self.kind == "stale" else 0.0
        return self.kind in kinds and self.from_s + grace_s <= at_s < self.to_s


def episodes(chance: np.random.Generator, until_s: float) -> tuple[Episode, ...]:
    """Return one to three faults of the API server and one or two of Prometheus."""
    found = []
    # A lie must outlast the windows that signals and demand are taken over.
    for kinds, most, longest_s in ((API, 3, 12.0), (LIES, 2, 18.0)):
        begin_s = 1.0
        for _ in range(int(chance.integers(1, most + 1))):
            from_s = begin_s + float(chance.uniform(0.0, 6.0))
            to_s = min(from_s + float(chance.uniform(2.0, longest_s)), until_s)
            kind = str(chance.choice(kinds))
            found.append(Episode(kind=kind, from_s=from_s, to_s=to_s))
            begin_s = to_s
    return tuple(sorted(found, key=lambda one: one.from_s))


class Weather:
    """The faults of the moment; asked by whichever thread serves a request."""

    def __init__(self, seed: int, course: Sequence[Episode], since_s: Callable[[], float]) -> None:
        """Strike as the course says, each request by the seed's dice."""
        self._course = course
        self._since_s = since_s
        self._lock = Lock()
        self._chance = np.random.default_rng([seed, 0xD1CE])

    def drops(self) -> bool:
        """Return whether watches end now."""
        now = self._now()
        return "down" in now or ("watches dropped" in now and self._strikes(0.2))

    def of_api(self, asked: Asked) -> Fault | None:
        """Return what becomes of a request to the API server."""
        for kind in self._now():
            fault = _API[kind](asked) if kind in _API else None
            if fault is not None and (kind in _ALWAYS or self._strikes(_OFTEN)):
                return fault
        return None

    def of_metrics(self, _: Asked) -> Fault | None:
        """Return what becomes of a query."""
        return next((_METRICS[kind] for kind in self._now() if kind in _METRICS), None)

    def _now(self) -> tuple[str, ...]:
        now_s = self._since_s()
        return tuple(one.kind for one in self._course if one.from_s <= now_s < one.to_s)

    def _strikes(self, share: float) -> bool:
        with self._lock:
            return bool(self._chance.random() < share)


def _if_writes(fault: Fault) -> Callable[[Asked], Fault | None]:
    return lambda asked: fault if asked.writes else None


def _always(fault: Fault) -> Callable[[Asked], Fault | None]:
    return lambda _: fault


_API: Mapping[str, Callable[[Asked], Fault | None]] = {
    "conflicts": _if_writes(Refused(409)),
    "too busy": _always(Refused(429, {"Retry-After": "1"})),
    "errors": _always(Refused(500)),
    "not heard": _always(Cut(heard=False)),
    "no answer": lambda asked: None if asked.watches else Cut(heard=True),
    "slow": lambda asked: None if asked.watches else Late(3.0),
    "down": _always(Cut(heard=False)),
    "token expired": _always(Refused(401)),
}
_ALWAYS = ("down", "token expired")


def _results(body: bytes, change: Callable[[list[dict[str, Any]]], object]) -> bytes:
    answer = json.loads(body)
    if answer.get("status") == "success":
        change(answer["data"]["result"])
    return json.dumps(answer).encode()


def _no_number(results: list[dict[str, Any]]) -> None:
    for one in results:
        one["value"][1] = "NaN"


_METRICS: Mapping[str, Fault] = {
    "empty": Told(lambda body: _results(body, lambda results: results.clear())),
    "NaN": Told(lambda body: _results(body, _no_number)),
    "broken": Refused(503),
    "silent": Late(5.0),
}
