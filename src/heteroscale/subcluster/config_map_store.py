"""The planner's memory in one ConfigMap beside the Lease: whoever leads next goes on from it.

It is kept as a whole, compressed. Each write names the version that was seen last, and `load`
writes, too: whatever a former leader sent late meets a newer version and is refused.
"""

from __future__ import annotations

import zlib
from base64 import b64decode, b64encode
from binascii import Error as NotBase64
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from heteroscale.config.cluster_sections import LeaseSection
from heteroscale.entities.state import FleetState
from heteroscale.errors import SubclusterUnavailable
from heteroscale.journal.checkpoint import damaged, kept, refused, remembered
from heteroscale.ports import Clock
from heteroscale.subcluster.api_server import ApiServer, NotReached, Reply
from heteroscale.subcluster.scalables import KubeObject

#: who wrote last, for people; also what makes each write a change
WRITER = "heteroscale.dev/writer"
_KEY = "state"
#: a ConfigMap holds 1 MiB; its keys and annotations count, too
_MOST_BYTES = 2**20 - 4096
#: half the time of the usual level, and nearly as small
_LEVEL = 3
#: somebody may write between a look and a write, but not all the time
_TRIES = 4
_LIMIT_S = 5.0


def memory_of(lease: LeaseSection) -> str:
    """Return the name of the ConfigMap in which whoever holds a Lease keeps its memory."""
    return f"{lease.name}-state"


class ConfigMapStore:
    """A store for whoever leads; others' writes are refused by `api`."""

    def __init__(
        self, api: ApiServer, clock: Clock, *, namespace: str, name: str, writer: str
    ) -> None:
        """Read and write nothing yet.

        Args:
            writer: of this run of this process, and nobody else's.
        """
        self._api = api
        self._clock = clock
        self._folder = f"/api/v1/namespaces/{namespace}/configmaps"
        self._path = f"{self._folder}/{name}"
        self._where = f"ConfigMap {namespace}/{name}"
        self._name = name
        self._writer = writer
        #: what was seen of it last; {} = it was not there
        self._seen: KubeObject = {}

    def load(self) -> FleetState:
        """Return the last saved state, empty when there is none, and shut out who wrote before.

        Raises:
            ConfigError: what is there is not what was saved.
            SubclusterUnavailable: it could not be read, or not be taken over.
        """
        deadline_s = self._clock.now_s() + _LIMIT_S
        try:
            self._look()
            content = (self._seen.get("binaryData") or {}).get(_KEY)
            state = FleetState() if content is None else self._unpacked(content)
            self._write(content, deadline_s)
        except NotReached as error:
            raise SubclusterUnavailable(f"{self._where}: {error}") from error
        return state

    def save(self, state: FleetState, acting: frozenset[str]) -> None:  # noqa: ARG002 - all is kept
        """Keep the state; return once the API server has all of it.

        Raises:
            ConfigError: it is larger than a ConfigMap may be; the one before is untouched.
            SubclusterUnavailable: it may or may not have been kept.
        """
        packed = zlib.compress(kept(state), _LEVEL)
        if len(packed) > _MOST_BYTES:
            rule = f"must fit {_MOST_BYTES} bytes, compressed; look after fewer services"
            raise refused(self._where, rule, len(packed))
        try:
            self._write(b64encode(packed).decode(), self._clock.now_s() + _LIMIT_S)
        except NotReached as error:
            raise SubclusterUnavailable(f"{self._where}: {error}") from error

    def _unpacked(self, content: str) -> FleetState:
        try:
            text = zlib.decompress(b64decode(content, validate=True))
        except (NotBase64, zlib.error) as error:
            raise damaged(self._where, error) from error
        return remembered(text, self._where)

    def _look(self) -> None:
        """See what is there.

        Raises:
            NotReached: no answer, or a refusal.
        """
        reply = self._api.get(self._path)
        if not reply.done and reply.status != HTTPStatus.NOT_FOUND:
            raise NotReached(reply.reason, sent=True, status=reply.status)
        self._seen = reply.body if reply.done else {}

    def _write(self, content: str | None, deadline_s: float) -> None:
        """Put content over what was seen last; where that has moved, over what is there by now.

        Whoever comes so far leads: `api` asks before each change, the second try included.

        Raises:
            NotReached: it may or may not have been written.
        """
        for _ in range(_TRIES):
            reply = self._put(content, deadline_s)
            if reply.done:
                self._seen = reply.body
                return
            moved = reply.status == HTTPStatus.CONFLICT or (
                self._seen and reply.status == HTTPStatus.NOT_FOUND
            )
            if not moved:
                raise NotReached(reply.reason, sent=True, status=reply.status)
            self._look()
        raise NotReached("others write it all the time", sent=True)

    def _put(self, content: str | None, deadline_s: float) -> Reply:
        metadata: Mapping[str, Any] = self._seen.get("metadata") or {"name": self._name}
        notes = {**(metadata.get("annotations") or {}), WRITER: self._writer}
        body: dict[str, Any] = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {**metadata, "annotations": notes},
        }
        if content is not None:
            body["binaryData"] = {_KEY: content}
        if self._seen:
            return self._api.put(self._path, body, deadline_s)
        return self._api.post(self._folder, body, deadline_s)
