"""The API server over HTTP: what is asked, answered and watched, as plain objects.

The way in (kubeconfig, service account, plugins) is a library's business; what is read here are
whole objects as JSON, since kinds differ and most of each object is nobody's concern.
"""

from __future__ import annotations

import math
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from threading import Event
from typing import Any
from weakref import WeakSet

import httpx2
import msgspec
from lightkube.config.client_adapter import Client, ConnectionParams
from lightkube.config.kubeconfig import KubeConfig, SingleConfig
from lightkube.core.exceptions import ConfigError as WayInError

from heteroscale.errors import ConfigError, Problem
from heteroscale.ports import Clock
from heteroscale.subcluster.scalables import KubeObject

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
#: merges lists of the kinds that Kubernetes itself brings, conditions by their type
STRATEGIC_PATCH = "application/strategic-merge-patch+json"

#: objects of one page of a list
_PAGE = 500
#: one request's limit where nothing else limits it
_LIMIT_S = 10.0
#: the server is asked again this long after it said "too many requests" without saying when
_RETRY_S = 1.0
_TOO_MANY = 429
#: a longer refusal that is no object is cut in messages
_SHOWN_CHARACTERS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """An answer of the API server; its status is an HTTP code."""

    status: int
    body: Mapping[str, Any]

    @property
    def done(self) -> bool:
        """Whether it did what it was asked."""
        return self.status < 300

    @property
    def reason(self) -> str:
        """Return what it said, for people."""
        return f"HTTP {self.status}: {self.body.get('message', 'no reason given')}"


class NotReached(Exception):
    """The API server did not answer; `sent` tells whether it may have heard."""

    def __init__(self, reason: str, *, sent: bool, status: int | None = None) -> None:
        self.sent = sent
        #: HTTP code, where it answered by a refusal
        self.status = status
        super().__init__(reason)


class ApiServer:
    """Asks one API server; safe to use from several threads."""

    def __init__(
        self,
        clock: Clock,
        *,
        kubeconfig: Path | None = None,
        limit_s: float = _LIMIT_S,
        may_change_s: Callable[[], float] = lambda: math.inf,
    ) -> None:
        """Open no connection yet.

        Args:
            kubeconfig: None = as kubectl would: the environment, the home folder, else the
                service account of the pod this runs in.
            limit_s: one request's limit where nothing else limits it.
            may_change_s: seconds for which changes may still be sent; asked before each of them.

        Raises:
            ConfigError: no cluster is configured.
        """
        config = _way_in(kubeconfig)
        #: of the context, or of the pod this runs in
        self.namespace = config.namespace
        timeout = httpx2.Timeout(limit_s)
        self._http = Client(config, ConnectionParams(timeout=timeout))
        self._clock = clock
        self._limit_s = limit_s
        self._may_change_s = may_change_s
        self._closed = Event()
        #: sockets of watches, gone when nobody reads them any more
        self._watched: WeakSet[socket.socket] = WeakSet()

    def get(self, path: str) -> Reply:
        """Return one object."""
        return self._ask("GET", path)

    def clock_s(self) -> float | None:
        """Return the server's time, to a second; None = it does not say.

        Raises:
            NotReached: no answer.
        """
        try:
            response = self._http.request("GET", "/version", timeout=self._limit_s)
        except httpx2.HTTPError as error:
            raise NotReached(str(error) or type(error).__name__, sent=True) from error
        said = response.headers.get("Date")
        return None if said is None else parsedate_to_datetime(said).timestamp()

    def post(self, path: str, body: KubeObject, deadline_s: float | None = None) -> Reply:
        """Make one object."""
        return self._ask("POST", path, body=body, deadline_s=deadline_s)

    def put(self, path: str, body: KubeObject, deadline_s: float) -> Reply:
        """Replace one object, if its version is still the one in `body`."""
        return self._ask("PUT", path, body=body, deadline_s=deadline_s)

    def patch(self, path: str, body: object, kind: str, deadline_s: float) -> Reply:
        """Change a part of one object."""
        return self._ask("PATCH", path, body=body, content_type=kind, deadline_s=deadline_s)

    def list_all(self, path: str) -> tuple[list[KubeObject], str]:
        """Return every object below a path, and the version that watching goes on from.

        Raises:
            NotReached: no answer, or a refusal.
        """
        items: list[KubeObject] = []
        params = {"limit": str(_PAGE)}
        while True:
            reply = self._ask("GET", path, params=params)
            if not reply.done:
                raise NotReached(f"{path}: {reply.reason}", sent=True, status=reply.status)
            items.extend(reply.body.get("items") or ())
            metadata = reply.body["metadata"]
            if not metadata.get("continue"):
                return items, str(metadata["resourceVersion"])
            params["continue"] = metadata["continue"]

    def watch(self, path: str, version: str, limit_s: float) -> Iterator[tuple[str, KubeObject]]:
        """Yield (kind of event, object) since a version, for so long.

        Raises:
            NotReached: the connection broke, or the version is too old (HTTP 410).
        """
        params = {
            "watch": "1",
            "resourceVersion": version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(round(limit_s)),
        }
        timeout = httpx2.Timeout(_LIMIT_S, read=limit_s + _LIMIT_S)
        try:
            with self._http.stream("GET", path, params=params, timeout=timeout) as response:
                stream = response.extensions["network_stream"].get_extra_info("socket")
                self._watched.add(stream)
                if self._closed.is_set():
                    return
                if response.status_code >= 300:
                    raise NotReached(f"{path}: HTTP {response.status_code}", sent=True)
                for line in response.iter_lines():
                    event = msgspec.json.decode(line)
                    if event["type"] == "ERROR":
                        raise NotReached(f"{path}: {event['object'].get('message')}", sent=True)
                    yield event["type"], event["object"]
        except (httpx2.HTTPError, httpx2.StreamError, msgspec.MsgspecError) as error:
            raise NotReached(f"{path}: {str(error) or type(error).__name__}", sent=True) from error

    def interrupt(self) -> None:
        """End every watch, and let whoever waits to ask again give up.

        A socket that is closed while a thread reads from it may be another file by the time the
        thread goes on: threads are ended first, and only then are connections closed.
        """
        self._closed.set()
        for stream in tuple(self._watched):
            with suppress(OSError):
                socket.socket.shutdown(stream, socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connections; nobody uses them any more."""
        self._closed.set()
        self._http.close()

    def _ask(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: object = None,
        content_type: str = "application/json",
        deadline_s: float | None = None,
    ) -> Reply:
        """Return the answer; asked again when the server was too busy, as it says, in time."""
        content = None if body is None else msgspec.json.encode(body)
        headers = {} if body is None else {"Content-Type": content_type}
        while True:
            left_s = self._left_s(method, path, deadline_s)
            try:
                response = self._http.request(
                    method,
                    path,
                    params=params,
                    content=content,
                    headers=headers,
                    timeout=min(left_s, self._limit_s),
                )
                answer = _answer(response)
            except httpx2.ConnectError as error:
                raise NotReached(f"{path}: {error}", sent=False) from error
            except (httpx2.HTTPError, msgspec.MsgspecError) as error:
                raise NotReached(
                    f"{path}: {str(error) or type(error).__name__}", sent=True
                ) from error
            if response.status_code != _TOO_MANY or deadline_s is None:
                return Reply(status=response.status_code, body=answer)
            again_s = _seconds(response.headers.get("Retry-After"))
            if again_s >= left_s or self._closed.wait(again_s):
                return Reply(status=_TOO_MANY, body={"message": "too many requests"})

    def _left_s(self, method: str, path: str, deadline_s: float | None) -> float:
        """Return how long a request may take.

        Raises:
            NotReached: it may not be sent any more.
        """
        left_s = self._limit_s if deadline_s is None else deadline_s - self._clock.now_s()
        if method != "GET":
            may_s = self._may_change_s()
            if may_s <= 0.0:
                raise NotReached(f"{path}: we do not lead", sent=False)
            left_s = min(left_s, may_s)
        if left_s <= 0.0:
            raise NotReached(f"{path}: no time left", sent=False)
        return left_s


def _answer(response: httpx2.Response) -> Mapping[str, Any]:
    """Return the object in an answer; a path that nobody serves is answered with plain text.

    Raises:
        msgspec.MsgspecError: it did what it was asked, and what it says cannot be read.
    """
    if not response.content:
        return {}
    try:
        answer = msgspec.json.decode(response.content)
    except msgspec.MsgspecError:
        if response.status_code < 300:
            raise
        return {"message": response.text[:_SHOWN_CHARACTERS].strip()}
    return answer if isinstance(answer, dict) else {}


def _way_in(kubeconfig: Path | None) -> SingleConfig:
    rule = "must name a cluster, or this must run in a pod of one"
    try:
        configs = KubeConfig.from_file(kubeconfig) if kubeconfig else KubeConfig.from_env()
        config = configs.get()
    except WayInError as error:
        rule = f"{rule} ({error})"
        config = None
    if config is None:
        raise ConfigError([Problem(path="kubeconfig", rule=rule)])
    return config


def _seconds(text: str | None) -> float:
    return float(text) if text is not None and text.isdigit() else _RETRY_S
