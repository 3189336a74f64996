"""What the API server holds of one kind, kept current by a watch in a thread of its own."""

from __future__ import annotations

import math
from collections.abc import Mapping
from threading import Event, Lock, Thread
from types import MappingProxyType

from heteroscale.ports import Clock
from heteroscale.subcluster.api_server import ApiServer, NotReached
from heteroscale.subcluster.scalables import KubeObject

#: a watch is opened anew this often: that it opens shows that what is held is current
_RENEW_S = 15.0
#: first and longest pause after a fault; each in a row doubles
_PAUSE_S = 0.2
_LONGEST_PAUSE_S = 10.0

#: what is answered where we may not look, or there is nothing of the kind
_REFUSALS = frozenset({403, 404})

#: (namespace, name)
ObjectKey = tuple[str, str]


def key_of(found: KubeObject) -> ObjectKey:
    """Return what names an object among those of its kind."""
    metadata = found["metadata"]
    return metadata.get("namespace", ""), metadata["name"]


def version_of(found: KubeObject) -> int:
    """Return how new an object is: what changed later has a higher one."""
    return int(found["metadata"]["resourceVersion"])


class Watched:
    """Every object below one path."""

    def __init__(self, api: ApiServer, clock: Clock, path: str) -> None:
        """Begin to watch."""
        self._api = api
        self._clock = clock
        self._path = path
        self._lock = Lock()
        self._objects: dict[ObjectKey, KubeObject] = {}
        self._shown: Mapping[ObjectKey, KubeObject] | None = None
        #: names of what was deleted → its version, so that no late answer brings it back
        self._gone: dict[ObjectKey, int] = {}
        self._current_s = -math.inf
        self._stop = Event()
        #: set once everything was listed
        self.filled = Event()
        #: why it is not current; "" = it is, as far as anyone knows
        self.fault = ""
        #: whether the API server said no: the kind is not there, or not for us to see
        self.refused = False
        self._thread = Thread(target=self._run, name=f"watch {path}", daemon=True)
        self._thread.start()

    def objects(self) -> Mapping[ObjectKey, KubeObject]:
        """Return all objects; the same mapping as long as none has changed."""
        with self._lock:
            if self._shown is None:
                self._shown = MappingProxyType(dict(self._objects))
            return self._shown

    def age_s(self) -> float:
        """Return the seconds since it was known to be current; infinite before it ever was."""
        return max(0.0, self._clock.now_s() - self._current_s)

    def take(self, found: KubeObject) -> None:
        """Take in what the API server answered to a change, if that is news."""
        with self._lock:
            key = key_of(found)
            held = self._objects.get(key)
            newest = version_of(held) if held is not None else self._gone.get(key, -1)
            if version_of(found) > newest:
                self._objects[key] = found
                self._shown = None

    def close(self) -> None:
        """Stop watching; the thread ends with its present request."""
        self._stop.set()

    def join(self) -> None:
        """Wait until the thread has ended."""
        self._thread.join()

    def _run(self) -> None:
        pause_s = _PAUSE_S
        while not self._stop.is_set():
            try:
                version = self._list()
                pause_s = _PAUSE_S
                while not self._stop.is_set():
                    version = self._follow(version)
            except NotReached as error:
                self.fault = str(error)
                self.refused = error.status in _REFUSALS
                self._stop.wait(pause_s)
                pause_s = min(2.0 * pause_s, _LONGEST_PAUSE_S)

    def _list(self) -> str:
        items, version = self._api.list_all(self._path)
        with self._lock:
            self._objects = {key_of(one): one for one in items}
            self._gone = {}
            self._shown = None
        self._is_current()
        self.filled.set()
        return version

    def _follow(self, version: str) -> str:
        """Take events in until the watch ends; return the version to go on from."""
        for kind, found in self._api.watch(self._path, version, _RENEW_S):
            version = str(found["metadata"]["resourceVersion"])
            if kind == "DELETED":
                self._drop(found)
            elif kind != "BOOKMARK":
                self.take(found)
            self._is_current()
            if self._stop.is_set():
                break
        self._is_current()
        return version

    def _drop(self, found: KubeObject) -> None:
        with self._lock:
            key = key_of(found)
            held = self._objects.get(key)
            if held is not None and version_of(held) <= version_of(found):
                del self._objects[key]
                self._shown = None
            self._gone[key] = version_of(found)

    def _is_current(self) -> None:
        self._current_s = self._clock.now_s()
        self.fault = ""
        self.refused = False
