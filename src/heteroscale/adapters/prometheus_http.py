"""One Prometheus server over HTTP: instant queries, with the way in that its operator set up."""

from __future__ import annotations

import base64
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path

import httpx
import msgspec

from heteroscale.config.metrics_sections import ServerSection

#: a longer reason of a server that refuses is cut in messages
_SHOWN_CHARACTERS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One figure of an answer."""

    labels: Mapping[str, str]
    #: may be NaN or infinite
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What one query returned, and what the server had to say about it."""

    points: tuple[Point, ...]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class NoAnswer:
    """No answer in time, a refusal, or nothing that can be read."""

    #: names the server; never holds a secret
    reason: str


class _Series(msgspec.Struct):
    metric: dict[str, str]
    value: tuple[float, str]


class _Vector(msgspec.Struct):
    result: list[_Series]


class _Body(msgspec.Struct):
    status: str
    answer: msgspec.Raw = msgspec.field(default=msgspec.Raw(b"null"), name="data")
    error: str = "no reason given"
    warnings: list[str] = msgspec.field(default_factory=list)


class PrometheusServer:
    """Asks one server; safe to use from several threads."""

    def __init__(self, section: ServerSection) -> None:
        """Open no connection yet; secrets are read anew for each query.

        Raises:
            OSError: a certificate file cannot be read.
        """
        self.name = section.name
        self._section = section
        tls = section.tls
        trusted = ssl.create_default_context(cafile=tls.ca_file)
        if tls.cert_file is not None:
            trusted.load_cert_chain(tls.cert_file, tls.key_file)
        self._http = httpx.Client(
            base_url=section.url.rstrip("/"), timeout=section.timeout_s, verify=trusted
        )

    def query(self, promql: str, at_s: float) -> Answer | NoAnswer:
        """Return the answer at an instant (epoch seconds)."""
        limit_s = self._section.timeout_s
        form = {"query": promql, "time": f"{at_s:.3f}", "timeout": f"{round(limit_s * 1000)}ms"}
        try:
            response = self._http.post("/api/v1/query", data=form, headers=self._credentials())
            body = msgspec.json.decode(response.content, type=_Body)
        except httpx.TimeoutException:
            return self._nothing(f"no answer within {limit_s:g} s")
        except httpx.HTTPError as error:
            return self._nothing(str(error) or type(error).__name__)
        except OSError as error:
            return self._nothing(f"{error.filename}: {error.strerror}")
        except msgspec.MsgspecError:
            return self._nothing(f"HTTP {response.status_code} and nothing that can be read")
        if body.status != "success":
            shown = body.error[:_SHOWN_CHARACTERS]
            return self._nothing(f"HTTP {response.status_code}: {shown}")
        try:
            vector = msgspec.json.decode(body.answer, type=_Vector)
            points = tuple(
                [Point(labels=one.metric, value=float(one.value[1])) for one in vector.result]
            )
        except (msgspec.MsgspecError, ValueError):
            return self._nothing("answered something else than a vector of numbers")
        return Answer(points=points, warnings=tuple(body.warnings))

    def clock_s(self) -> float | None:
        """Return the server's time, to a second; None = it does not answer, or does not say."""
        try:
            response = self._http.get("/api/v1/status/buildinfo", headers=self._credentials())
        except (httpx.HTTPError, OSError):
            return None
        said = response.headers.get("Date")
        return None if said is None else parsedate_to_datetime(said).timestamp()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _nothing(self, reason: str) -> NoAnswer:
        return NoAnswer(reason=f"{self.name}: {reason}")

    def _credentials(self) -> dict[str, str]:
        section = self._section
        if section.bearer_token_file is not None:
            return {"Authorization": f"Bearer {_secret(section.bearer_token_file)}"}
        if section.basic is not None:
            pair = f"{section.basic.username}:{_secret(section.basic.password_file)}"
            return {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}
        return {}


def _secret(file: str) -> str:
    return Path(file).read_text(encoding="utf-8").strip()
