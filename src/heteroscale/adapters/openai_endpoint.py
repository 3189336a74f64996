"""An OpenAI-compatible endpoint: which models it serves, and when the tokens of answers come.

Concurrency stays in here: a wave of requests is one call. Faults are told with the address and the
cause; a key is never part of what is told.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import TracebackType
from typing import Any, Self

import httpx
import msgspec

from heteroscale.errors import ObservationError
from heteroscale.performance.endpoint_estimate import Streamed, counted

_CONNECT_S = 10.0
#: of an endpoint's own words about a fault
_SHOWN_CHARACTERS = 200
_HTTP_ERROR = 400


class Api(StrEnum):
    """Which of the two ways to ask."""

    COMPLETIONS = "completions"
    CHAT = "chat"

    @property
    def path(self) -> str:
        """Return where it is, below the version."""
        return "chat/completions" if self is Api.CHAT else "completions"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedModel:
    """A model that an endpoint lists."""

    name: str
    #: prompt and answer of one request; None = it does not say
    request_tokens: int | None


class _Details(msgspec.Struct):
    cached_tokens: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0
    prompt_tokens_details: _Details | None = None


class _Delta(msgspec.Struct):
    content: str | None = None
    #: two names of one thing: the thoughts of models that think aloud
    reasoning_content: str | None = None
    reasoning: str | None = None


class _Choice(msgspec.Struct):
    text: str | None = None
    delta: _Delta | None = None

    def has_text(self) -> bool:
        """Return whether anything of the answer is in it."""
        delta = self.delta or _Delta()
        return bool(self.text or delta.content or delta.reasoning_content or delta.reasoning)


class _Chunk(msgspec.Struct):
    choices: list[_Choice] = []
    usage: _Usage | None = None
    error: Any = None


class _Model(msgspec.Struct):
    id: str
    max_model_len: int | None = None
    context_window: int | None = None


class _Models(msgspec.Struct):
    models: list[_Model] = msgspec.field(name="data")


_CHUNK = msgspec.json.Decoder(_Chunk)
_MODELS = msgspec.json.Decoder(_Models)


def _reported(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Report what a task left behind, unless it is only that somebody stopped us: they know."""
    if not isinstance(context.get("exception"), KeyboardInterrupt):
        loop.default_exception_handler(context)


class OpenAiEndpoint:
    """One endpoint, with its connections kept open between waves."""

    def __init__(self, url: str, *, api: Api, key: str | None, timeout_s: float) -> None:
        """Open nothing yet.

        Args:
            url: with or without the version, `/v1`.
            key: sent as a bearer token; None = none is.
            timeout_s: longest wait for the next bytes of an answer.
        """
        self.url = url.rstrip("/").removesuffix("/v1") + "/v1"
        self._api = api
        self._key = key
        self._runner = asyncio.Runner()
        self._runner.get_loop().set_exception_handler(_reported)
        headers = {"Accept-Encoding": "identity"}
        if key is not None:
            headers["Authorization"] = f"Bearer {key}"
        self._client = httpx.AsyncClient(
            headers=headers,
            timeout=httpx.Timeout(timeout_s, connect=min(_CONNECT_S, timeout_s), pool=None),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=None),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._runner.run(self._client.aclose())
        self._runner.close()

    def models(self) -> tuple[ServedModel, ...]:
        """Return the models it lists.

        Raises:
            ObservationError: it cannot be reached, refuses, or answers something else.
        """
        return self._runner.run(self._models())

    def wave(
        self, model: str, prompts: Sequence[str], answer_tokens: int, limit_s: float
    ) -> tuple[Streamed, ...]:
        """Send prompts at the same moment and return what became of each.

        Raises:
            ObservationError: one of them could not be timed; the others are given up.
            TimeoutError: not all had been answered after `limit_s`.
        """
        return self._runner.run(self._wave(model, prompts, answer_tokens, limit_s))

    async def _models(self) -> tuple[ServedModel, ...]:
        url = f"{self.url}/models"
        try:
            response = await self._client.get(url)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise self._fault(url, _words_of(error)) from error
        if response.status_code >= _HTTP_ERROR or response.is_redirect:
            raise self._refused(url, response.status_code, response.content)
        try:
            listed = _MODELS.decode(response.content).models
        except msgspec.DecodeError as error:
            raise self._fault(url, f"does not list models: {error}") from error
        return tuple(
            ServedModel(name=one.id, request_tokens=one.max_model_len or one.context_window or None)
            for one in listed
        )

    async def _wave(
        self, model: str, prompts: Sequence[str], answer_tokens: int, limit_s: float
    ) -> tuple[Streamed, ...]:
        bodies = [self._body(model, prompt, answer_tokens) for prompt in prompts]
        try:
            async with asyncio.timeout(limit_s), asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._streamed(body)) for body in bodies]
        except ExceptionGroup as errors:
            # One fault is as good as many: most often all have the same.
            raise errors.exceptions[0] from None
        return tuple(task.result() for task in tasks)

    def _body(self, model: str, prompt: str, answer_tokens: int) -> bytes:
        asked: dict[str, Any] = {
            "model": model,
            "max_tokens": answer_tokens,
            # Not the model's to end: what is timed is a number of steps.
            "min_tokens": answer_tokens,
            "ignore_eos": True,
            "temperature": 1.0,
            "stream": True,
            "stream_options": {"include_usage": True, "continuous_usage_stats": True},
        }
        if self._api is Api.CHAT:
            asked["messages"] = [{"role": "user", "content": prompt}]
        else:
            asked["prompt"] = prompt
        return json.dumps(asked).encode()

    async def _streamed(self, body: bytes) -> Streamed:
        url = f"{self.url}/{self._api.path}"
        answer = _Answer()
        headers = {"Content-Type": "application/json"}
        sent_s = time.monotonic()
        try:
            async with self._client.stream("POST", url, content=body, headers=headers) as response:
                if response.status_code >= _HTTP_ERROR or response.is_redirect:
                    raise self._refused(url, response.status_code, await response.aread())
                kind = response.headers.get("content-type", "")
                if "text/event-stream" not in kind:
                    raise self._fault(url, f"does not stream: it answers {kind or 'no type'}")
                async for event in _events(response):
                    answer.add(time.monotonic(), event)
        except httpx.HTTPError as error:
            raise self._fault(url, _words_of(error)) from error
        except _Unusable as reason:
            raise self._fault(url, str(reason)) from None
        try:
            return answer.streamed(sent_s)
        except _Unusable as reason:
            raise self._fault(url, str(reason)) from None

    def _refused(self, url: str, status: int, content: bytes) -> ObservationError:
        said = " ".join(content.decode("utf-8", "replace").split())
        hint = ""
        if status == httpx.codes.NOT_FOUND and url.endswith(f"/{self._api.path}"):
            other = Api.COMPLETIONS if self._api is Api.CHAT else Api.CHAT
            hint = f" (is --api {other.value} what it has?)"
        return self._fault(url, f"answers HTTP {status}{hint}: {said or 'nothing'}")

    def _fault(self, url: str, cause: str) -> ObservationError:
        # An endpoint may repeat the key in its refusal.
        clean = cause.replace(self._key, "***") if self._key else cause
        shown = clean if len(clean) <= _SHOWN_CHARACTERS else f"{clean[:_SHOWN_CHARACTERS]}…"
        return ObservationError(f"{url}: {shown}")


class _Unusable(Exception):
    """An answer that cannot be timed; the message says why."""


class _Answer:
    """Collects one streamed answer."""

    def __init__(self) -> None:
        self._times: list[float] = []
        self._running: list[int | None] = []
        self._usage: _Usage | None = None

    def add(self, now_s: float, event: bytes) -> None:
        """Take in one event.

        Raises:
            _Unusable: it is a fault, or no chunk of an answer.
        """
        try:
            chunk = _CHUNK.decode(event)
        except msgspec.DecodeError as error:
            raise _Unusable(f"streams what is no chunk of an answer ({error})") from error
        if chunk.error is not None:
            raise _Unusable(f"fails while it answers: {chunk.error}")
        before = self._usage.completion_tokens if self._usage else 0
        self._usage = chunk.usage or self._usage
        grown = chunk.usage is not None and chunk.usage.completion_tokens > before
        if any(choice.has_text() for choice in chunk.choices) or (chunk.choices and grown):
            self._times.append(now_s)
            self._running.append(chunk.usage.completion_tokens if chunk.usage else None)

    def streamed(self, sent_s: float) -> Streamed:
        """Return the whole.

        Raises:
            _Unusable: it ended early, was empty, or does not say how many tokens it had.
        """
        usage = self._usage
        if not self._times:
            count = usage.completion_tokens if usage else 0
            raise _Unusable(f"streams an empty answer ({count} tokens by its own count)")
        if usage is None or min(usage.prompt_tokens, usage.completion_tokens) < 1:
            raise _Unusable("does not say how many tokens there were (usage)")
        details = usage.prompt_tokens_details
        return Streamed(
            sent_s=sent_s,
            arrivals=counted(self._times, self._running, usage.completion_tokens),
            prompt_tokens=usage.prompt_tokens,
            answer_tokens=usage.completion_tokens,
            cached_tokens=(details.cached_tokens or 0) if details else 0,
        )


async def _events(response: httpx.Response) -> AsyncIterator[bytes]:
    """Yield the content of each server-sent event up to the last.

    Raises:
        _Unusable: the connection ended before it.
    """
    rest = b""
    async for received in response.aiter_bytes():
        *lines, rest = (rest + received).split(b"\n")
        for line in lines:
            field, _, content = line.strip().partition(b":")
            if field != b"data":
                continue
            if content.strip() == b"[DONE]":
                return
            yield content
    raise _Unusable("ends its answer before it is complete")


def _words_of(error: Exception) -> str:
    """Return what a fault of the connection is, in a few words."""
    kinds: dict[type[Exception], str] = {
        httpx.ConnectTimeout: "does not accept a connection in time",
        httpx.ReadTimeout: "sends nothing for longer than --timeout-s",
        httpx.RemoteProtocolError: "closes the connection before the answer is complete",
    }
    words = kinds.get(type(error), "cannot be reached")
    return f"{words} ({error})" if str(error) else words
