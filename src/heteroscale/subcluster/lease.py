"""Who of several controllers acts: whoever holds one Lease of the cluster, and only while it does.

Nobody's clock is compared with another's. Who waits counts from when it saw the Lease change last;
who leads counts from before its last renewal was sent, and stops earlier than the others begin.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable, Mapping
from http import HTTPStatus
from threading import Event, Thread
from typing import Any

from heteroscale.ports import Clock
from heteroscale.subcluster.api_server import ApiServer, NotReached
from heteroscale.subcluster.scalables import KubeObject

#: on the Lease: whoever writes anything but "false" here stops every change
FREEZE = "heteroscale.dev/freeze"

#: of a Lease's duration: what its holder uses of it, and the time between two tries. The rest is
#: for clocks that run at different speeds and requests that arrive late.
_USED = 2.0 / 3.0
_PACE = 2.0 / 15.0


class Lease:
    """Tries to hold one Lease, from a thread of its own, until it is closed."""

    def __init__(
        self,
        api: ApiServer,
        clock: Clock,
        steady_s: Callable[[], float],
        *,
        namespace: str,
        name: str,
        identity: str,
        duration_s: int,
    ) -> None:
        """Begin to try.

        Args:
            api: a connection of its own, so that no renewal waits behind anything else.
            steady_s: seconds that nobody sets, from any beginning.
            identity: of this run of this process; nobody else's, and never used again.
            duration_s: how long others wait after the last renewal that they saw.
        """
        self._api = api
        self._clock = clock
        self._steady_s = steady_s
        self._folder = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
        self._path = f"{self._folder}/{name}"
        self._name = name
        #: of this run of this process
        self.identity = identity
        self._duration_s = duration_s
        #: what the Lease said when it was last seen to change, and when that was
        self._seen: Mapping[str, Any] = {}
        self._seen_s = -math.inf
        #: our own clock's end of what we hold
        self._until_s = -math.inf
        self._held: KubeObject = {}
        self._stop = Event()
        #: whether a person has frozen the fleet, as far as is known
        self.frozen = False
        #: who holds it, as far as is known; "" = nobody
        self.holder = ""
        #: why the last try failed; "" = it did not
        self.fault = ""
        #: set whenever we begin to lead
        self._leading = Event()
        self._thread = Thread(target=self._run, name=f"lease {name}", daemon=True)
        self._thread.start()

    def left_s(self) -> float:
        """Return for how long changes may still be sent; 0 where another may lead."""
        left_s = self._until_s - self._steady_s()
        if left_s <= 0.0:
            self._leading.clear()
            return 0.0
        return left_s

    def leads(self) -> bool:
        """Return whether we may act now."""
        return self.left_s() > 0.0

    def wait(self, limit_s: float) -> bool:
        """Wait until we lead; False = not within the limit."""
        self.leads()
        return self._leading.wait(limit_s) and self.leads()

    def close(self) -> None:
        """Stop trying and give the Lease back, so that another need not wait.

        Whoever calls has stopped acting.
        """
        self._stop.set()
        self._thread.join()
        if self.leads():
            self._until_s = -math.inf
            try:
                self._api.put(self._path, self._body(self._held, ""), self._deadline_s())
            except NotReached as error:
                self.fault = str(error)
        self._api.close()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self.fault = self._try()
            except NotReached as error:
                self.fault = str(error)
            except Exception as error:  # noqa: BLE001 - whatever the answer was, try again
                self.fault = f"{type(error).__name__}: {error}"
            self._stop.wait(self._duration_s * _PACE)

    def _try(self) -> str:
        """Take or renew the Lease if it is free or ours; return why it could not be, if so.

        Raises:
            NotReached: no answer.
        """
        began_s = self._steady_s()
        reply = self._api.get(self._path)
        if reply.done:
            notes = (reply.body.get("metadata") or {}).get("annotations") or {}
            self.frozen = notes.get(FREEZE, "false") != "false"
        if reply.status == HTTPStatus.NOT_FOUND:
            reply = self._api.post(self._folder, self._body({}, self.identity), self._deadline_s())
        elif not reply.done:
            return reply.reason
        elif self._is_anothers(reply.body):
            self._until_s = -math.inf
            return ""
        else:
            body = self._body(reply.body, self.identity)
            reply = self._api.put(self._path, body, self._deadline_s())
        if reply.status == HTTPStatus.CONFLICT:
            # It was changed in between: whose it is now, the next look tells.
            return ""
        if not reply.done:
            return reply.reason
        self._held = reply.body
        self._seen, self._seen_s = reply.body["spec"], self._steady_s()
        self.holder = self.identity
        self._until_s = began_s + self._duration_s * _USED
        self._leading.set()
        return ""

    def _is_anothers(self, found: KubeObject) -> bool:
        """Return whether another holds it, and has shown so within its own duration."""
        spec = found.get("spec") or {}
        self.holder = spec.get("holderIdentity") or ""
        now_s = self._steady_s()
        if spec != self._seen:
            self._seen, self._seen_s = spec, now_s
        duration_s = float(spec.get("leaseDurationSeconds") or self._duration_s)
        return self.holder not in ("", self.identity) and now_s < self._seen_s + duration_s

    def _body(self, found: KubeObject, holder: str) -> dict[str, Any]:
        """Return the Lease as it should be; times in it are for people."""
        now = dt.datetime.fromtimestamp(self._clock.now_s(), dt.UTC)
        said = now.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        before = found.get("spec") or {}
        moved = before.get("holderIdentity") != holder
        spec = {
            **before,
            "holderIdentity": holder,
            "leaseDurationSeconds": self._duration_s,
            "renewTime": said,
        }
        if moved and holder:
            spec["acquireTime"] = said
            spec["leaseTransitions"] = int(before.get("leaseTransitions") or 0) + bool(before)
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": found.get("metadata") or {"name": self._name},
            "spec": spec,
        }

    def _deadline_s(self) -> float:
        return self._clock.now_s() + self._duration_s * (1.0 - _USED)
