"""Requests to a front end at a rate that changes, each watched to its last token."""

from __future__ import annotations

import asyncio
import json
import random
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import httpx

from tests.integration.dynamo import MODEL

_SYLLABLES = [first + last for first in "bcdfghjklmnprstvwz" for last in "aeiou"]
_LIMIT_S = 180.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Mix:
    """What is asked for."""

    #: words of a prompt, no two prompts alike
    prompt_words: int
    #: tokens of a short answer, and of a long one
    short_tokens: int
    long_tokens: int
    #: every so many requests one wants a long answer
    long_every: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Spell:
    """A time of one rate."""

    name: str
    length_s: float
    requests_per_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What became of one request."""

    at_s: float
    spell: str
    tokens: int
    #: None = no first token came
    ttft_s: float | None
    length_s: float
    #: "" = every token came
    failure: str


@dataclass(slots=True)
class Traffic:
    """Sends the spells one after the other from a thread of its own."""

    url: str
    mix: Mix
    spells: Sequence[Spell]
    requests: list[Request] = field(default_factory=list)
    #: spell under way; "" = all were sent
    spell: str = ""
    began_s: float = 0.0
    _over: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def serves(self) -> bool:
        """Return whether one short request is answered whole; it is not counted."""
        asyncio.run(self._try())
        return not self.requests.pop().failure

    def begin(self) -> None:
        """Begin to send."""
        self.began_s = time.time()
        self.spell = self.spells[0].name
        self._thread = threading.Thread(target=lambda: asyncio.run(self._send()), daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Send no more than what was sent."""
        self._over.set()

    def answered(self) -> bool:
        """Return whether every request was sent and has ended."""
        return self._thread is not None and not self._thread.is_alive()

    async def _send(self) -> None:
        draw = random.Random(1)
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        async with (
            httpx.AsyncClient(timeout=_LIMIT_S, limits=limits, trust_env=False) as client,
            asyncio.TaskGroup() as under_way,
        ):
            next_s, sent = time.monotonic(), 0
            for spell in self.spells:
                self.spell = spell.name
                until_s = next_s + spell.length_s
                while next_s < until_s and not self._over.is_set():
                    await asyncio.sleep(max(0.0, next_s - time.monotonic()))
                    sent += 1
                    long = sent % self.mix.long_every == 0
                    tokens = self.mix.long_tokens if long else self.mix.short_tokens
                    words = " ".join(draw.choices(_SYLLABLES, k=self.mix.prompt_words))
                    under_way.create_task(self._ask(client, spell.name, words, tokens))
                    next_s += 1.0 / spell.requests_per_s
            self.spell = ""

    async def _try(self) -> None:
        async with httpx.AsyncClient(timeout=_LIMIT_S, trust_env=False) as client:
            await self._ask(client, "", "ba", 2)

    async def _ask(self, client: httpx.AsyncClient, spell: str, prompt: str, tokens: int) -> None:
        body = {
            "model": MODEL,
            "messages": [{"role": "user", "content": prompt}],
            "max_tokens": tokens,
            "ignore_eos": True,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        at_s, began_s = time.time(), time.monotonic()
        ttft_s: float | None = None
        told = 0
        failure = ""
        try:
            address = f"{self.url}/v1/chat/completions"
            async with client.stream("POST", address, json=body) as answer:
                if answer.status_code != httpx.codes.OK:
                    failure = f"HTTP {answer.status_code}"
                async for line in answer.aiter_lines():
                    if ttft_s is None and line.startswith("data:"):
                        ttft_s = time.monotonic() - began_s
                    if '"usage":{' in line:
                        told = json.loads(line[5:])["usage"]["completion_tokens"]
        except httpx.HTTPError as error:
            failure = type(error).__name__
        if not failure and told != tokens:
            failure = "cut short"
        self.requests.append(
            Request(
                at_s=at_s,
                spell=spell,
                tokens=tokens,
                ttft_s=ttft_s,
                length_s=time.monotonic() - began_s,
                failure=failure,
            )
        )
