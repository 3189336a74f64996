"""Status and Events of ScaledServices, written from a thread of its own so that no tick waits.

Only what has changed is written. What could not be written is tried again after the next tick, as
it is by then; an Event that could not be told is not told later.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Mapping
from http import HTTPStatus
from threading import Event as Signal
from threading import Lock, Thread

from heteroscale.loop import TickReport
from heteroscale.ports import Clock
from heteroscale.subcluster.api_server import MERGE_PATCH, ApiServer, NotReached, Reply
from heteroscale.subcluster.asked_fleet import AskedFleet
from heteroscale.subcluster.events import EventBook, Write, told_of
from heteroscale.subcluster.in_place import InPlaceSubcluster
from heteroscale.subcluster.scaled_services import resources_path
from heteroscale.subcluster.status import Case, Status, Tick, news, status_of, with_texts
from heteroscale.subcluster.watched import ObjectKey

#: where nothing but reasons has changed, a status is written this seldom
_SELDOM_S = 60.0
_SELDOM = frozenset({"reasons", "reason"})
_LIMIT_S = 5.0
#: a watch has seen by then what was written
_LAG_S = 10.0
#: events that wait; older ones are not told
_MOST_EVENTS = 1000


class Publisher:
    """Tells the API server what became of each resource; only who leads may."""

    def __init__(self, api: ApiServer, clock: Clock, instance: str) -> None:
        """Begin to wait for something to tell.

        Args:
            api: asks before each change whether we lead.
            instance: which controller tells.
        """
        self._api = api
        self._clock = clock
        self._book = EventBook(instance)
        self._lock = Lock()
        #: resource → (uid, status) to be written; the newest counts
        self._wanted: dict[ObjectKey, tuple[str, Status]] = {}
        self._events: deque[Write] = deque(maxlen=_MOST_EVENTS)
        #: uid → what was written last, and when
        self._written: dict[str, tuple[Status, float]] = {}
        self._due = Signal()
        self._stop = Signal()
        #: why the last write failed; "" = it did not
        self.fault = ""
        self._thread = Thread(target=self._run, name="status and events", daemon=True)
        self._thread.start()

    def tell(
        self,
        report: TickReport,
        fleet: AskedFleet,
        seen: InPlaceSubcluster,
        approvals: Mapping[str, str],
        *,
        frozen: bool,
    ) -> None:
        """Take in one tick: what changed is told soon.

        Args:
            approvals: service → what became of its approval.
        """
        now_s = self._clock.now_s()
        tick = Tick.of(report, frozen=frozen)
        resources, sorted_out = fleet.resources(), fleet.sorted_out
        self._forget({one["metadata"]["uid"] for one in resources.values()}, now_s)
        for key, resource in resources.items():
            asked = sorted_out.asked.get(key)
            name = resource["metadata"]["name"]
            case = Case(resource=resource, spec=None, refusal=sorted_out.refused.get(key))
            if asked is not None:
                case = Case(
                    resource=resource,
                    spec=asked.spec,
                    contested=seen.contested.get(name, ""),
                    amiss=seen.amiss.get(name, ()),
                    approval=approvals.get(name, ""),
                )
            self._tell_status(key, case, tick, now_s)
            if asked is not None and name in tick.sent:
                for told in told_of(name, report, tick.decisions.get(name)):
                    self._events.extend(self._book.writes(resource, told, now_s))
        self._due.set()

    def notices(self) -> tuple[str, ...]:
        """Return why something could not be told, in words; nothing else waits for it."""
        return (f"ScaledServices cannot be told: {self.fault}",) if self.fault else ()

    def close(self) -> None:
        """Stop once all is told, or something cannot be."""
        self._stop.set()
        self._due.set()
        self._thread.join()

    def _tell_status(self, key: ObjectKey, case: Case, tick: Tick, now_s: float) -> None:
        uid = case.resource["metadata"]["uid"]
        written, at_s = self._written.get(uid, ({}, 0.0))
        # The watch may not have seen the newest yet; later it knows better what is there.
        lately = 0.0 <= now_s - at_s < _LAG_S
        before = written if lately else case.resource.get("status") or {}
        status = status_of(case, before, tick, now_s)
        changed = news(before, status)
        with self._lock:
            if not changed or (changed <= _SELDOM and 0.0 <= now_s - at_s < _SELDOM_S):
                self._wanted.pop(key, None)
                return
            decision = tick.decisions.get(case.spec.name) if case.spec else None
            self._wanted[key] = uid, with_texts(status, decision)

    def _forget(self, uids: Collection[str], now_s: float) -> None:
        with self._lock:
            self._written = {uid: one for uid, one in self._written.items() if uid in uids}
        self._book.forget(now_s)

    def _run(self) -> None:
        while not self._stop.is_set():
            self._due.wait()
            self._due.clear()
            while self._one() and not (self._stop.is_set() and self.fault):
                pass

    def _one(self) -> bool:
        """Write one thing; return whether there was any."""
        with self._lock:
            write = self._events.popleft() if self._events else None
            key = next(iter(self._wanted), None) if write is None else None
            wanted = self._wanted.pop(key) if key is not None else None
        if write is not None:
            self._try(lambda deadline_s: self._event(write, deadline_s))
        if key is not None and wanted is not None:
            uid, status = wanted
            path = f"{resources_path(*key)}/status"
            body = {"metadata": {"uid": uid}, "status": status}
            if self._try(lambda by_s: self._api.patch(path, body, MERGE_PATCH, by_s)):
                with self._lock:
                    self._written[uid] = status, self._clock.now_s()
        return write is not None or wanted is not None

    def _event(self, write: Write, deadline_s: float) -> Reply:
        if write.series:
            return self._api.patch(write.path, write.body, MERGE_PATCH, deadline_s)
        return self._api.post(write.path, write.body, deadline_s)

    def _try(self, ask: Callable[[float], Reply]) -> bool:
        try:
            reply = ask(self._clock.now_s() + _LIMIT_S)
        except NotReached as error:
            self.fault = str(error)
            return False
        # What is there already was told before.
        self.fault = "" if reply.done or reply.status == HTTPStatus.CONFLICT else reply.reason
        return reply.done
