"""From a metrics file to what an adapter reads by: shipped dialects filled in, faults at once."""

from __future__ import annotations

import importlib.resources
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

from heteroscale.config.document import parse_document, read_text
from heteroscale.config.faults import unknown_key
from heteroscale.config.load import checked
from heteroscale.config.metrics_sections import DialectSection, MetricsFile, Origin
from heteroscale.config.view import Fault, View
from heteroscale.entities.snapshot import Signal

#: way to read a signal → what must stand beside it, and what may
_WAYS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "counter": ((), ("less",)),
    "gauge": ((), ()),
    "mean": ((), ()),
    "histogram": ((), ()),
    "arrivals": (("lengths",), ("lengths",)),
}
_BESIDE = ("less", "lengths")
#: the one way in which each signal can be read
_WAY_OF: Mapping[Signal, str] = {
    Signal.TPS: "counter",
    Signal.OFFERED_TPS: "arrivals",
    Signal.UTILIZATION: "mean",
    Signal.SM_ACTIVITY: "mean",
    Signal.TTFT: "histogram",
    Signal.TBT: "histogram",
    Signal.QUEUE_LENGTH: "gauge",
    Signal.KV_USAGE: "mean",
}


def load_metrics(path: Path) -> MetricsFile:
    """Return a metrics file with the shipped dialects among its own.

    Raises:
        ConfigError: with every problem in the file, in the order of its lines.
    """
    return parse_metrics(read_text(path), str(path))


def parse_metrics(text: str, file: str | None) -> MetricsFile:
    """Return what a text says; `file` is how problems name it.

    Raises:
        ConfigError: with every problem in the text, in the order of its lines.
    """
    read = checked(parse_document(text, file), MetricsFile, metrics_rules)
    return read.model_copy(update={"dialects": {**shipped_dialects(), **read.dialects}})


@cache
def shipped_dialects() -> Mapping[str, DialectSection]:
    """Return the dialects that come with the package, by name."""
    folder = importlib.resources.files("heteroscale.config") / "dialects"
    dialects: dict[str, DialectSection] = {}
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        document = parse_document(entry.read_text(encoding="utf-8"), entry.name)
        dialects[entry.name.removesuffix(".yaml")] = checked(
            document, DialectSection, dialect_rules
        )
    return dialects


def metrics_rules(file: View) -> Iterator[Fault]:
    """Yield what is wrong between the fields of a metrics file."""
    known = {*shipped_dialects(), *(name for name, _ in file.at("dialects").entries())}
    names: set[str] = set()
    for server in file.at("servers").items():
        name = server.at("name").text()
        if name is not None and name in names:
            yield Fault(view=server.at("name"), rule="must be unique")
        names.add(name or "")
        yield from _access_rules(server)
        for source in server.at("sources").items():
            dialect = source.at("dialect").text()
            if dialect is not None and dialect not in known:
                rule = unknown_key(dialect, known, "dialect")
                yield Fault(view=source.at("dialect"), rule=rule)
            yield from _expression_rules(source.at("match"))
            yield from _pod_rules(source, _origin(file, dialect))
    for _, dialect_view in file.at("dialects").entries():
        yield from dialect_rules(dialect_view)


def dialect_rules(dialect: View) -> Iterator[Fault]:
    """Yield what is wrong between the fields of a dialect's rules."""
    for rule in dialect.at("rules").items():
        yield from _expression_rules(rule.at("where"))
        ways = [way for way in _WAYS if rule.at(way).value is not None]
        if len(ways) != 1:
            must = f"must have exactly one of {', '.join(_WAYS)}"
            yield Fault(view=rule, rule=must, shown=False)
            continue
        way = ways[0]
        signal = rule.at("signal").text()
        if signal in set(Signal) and _WAY_OF[Signal(signal)] != way:
            right = _WAY_OF[Signal(signal)]
            yield Fault(view=rule.at(way), rule=f"must be written as {right} for {signal}")
        needed, allowed = _WAYS[way]
        for key in _BESIDE:
            if key in needed and rule.at(key).value is None:
                yield Fault(view=rule.at(key), rule=f"is required with {way}", shown=False)
            if key not in allowed and rule.at(key).value is not None:
                yield Fault(view=rule.at(key), rule=f"must not be written beside {way}")


def _origin(file: View, dialect: str | None) -> str | None:
    """Return who speaks a dialect, as far as the file says; its own ones come first."""
    own = file.at("dialects", dialect or "")
    if own.value is not None or dialect is None:
        return own.at("origin").text()
    shipped = shipped_dialects().get(dialect)
    return None if shipped is None else shipped.origin


def _pod_rules(source: View, origin: str | None) -> Iterator[Fault]:
    pods = source.at("pods")
    if pods.value is None:
        return
    if origin == Origin.GATEWAY:
        rule = "must not be written with a gateway's dialect: its pods are no engines of a service"
        yield Fault(view=pods, rule=rule, shown=False)
    if source.at("labels").value is not None:
        yield Fault(view=pods, rule="must not be written beside labels", shown=False)


def _access_rules(server: View) -> Iterator[Fault]:
    if server.at("basic").value is not None and server.at("bearer_token_file").value is not None:
        rule = "must not be written beside bearer_token_file"
        yield Fault(view=server.at("basic"), rule=rule, shown=False)
    tls = server.at("tls")
    if tls.at("key_file").value is not None and tls.at("cert_file").value is None:
        yield Fault(view=tls.at("key_file"), rule="must stand beside cert_file", shown=False)
    url = server.at("url").text()
    if url is not None and "@" in url.partition("://")[2].partition("/")[0]:
        rule = "must not hold a user name or password; write basic or bearer_token_file"
        yield Fault(view=server.at("url"), rule=rule, shown=False)


def _expression_rules(matchers: View) -> Iterator[Fault]:
    """Yield a fault for each value that is no regular expression."""
    for _, entry in matchers.entries():
        expression = entry.text()
        if expression is None:
            continue
        try:
            re.compile(expression)
        except re.error as error:
            yield Fault(view=entry, rule=f"must be a regular expression: {error}")
