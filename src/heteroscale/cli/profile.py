"""`heteroscale profile`: time a live OpenAI-compatible endpoint and write a profile of it."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer

from heteroscale.adapters.endpoint_profile import Profiler, chosen_model
from heteroscale.adapters.openai_endpoint import Api, OpenAiEndpoint, ServedModel
from heteroscale.adapters.whole_file import write_whole
from heteroscale.cli.root import app
from heteroscale.errors import ConfigError, Problem
from heteroscale.performance.endpoint_estimate import (
    Measured,
    Shape,
    Timing,
    batch_error,
    observed,
    table_of,
)
from heteroscale.performance.endpoint_plan import Grid, Plan
from heteroscale.performance.fit import FitError
from heteroscale.performance.table import LatencyTable, Source
from heteroscale.performance.table_file import FORMAT, load_tables, tables_text

KEY_VARIABLE = "HETEROSCALE_API_KEY"
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_CACHED_NOTICE = 0.02
#: no engine holds more in one request or batch
_MOST = 10_000_000
_DEFAULT = Grid()


def _joined(counts: tuple[int, ...]) -> str:
    return ",".join(map(str, counts))


def _list_of(what: str) -> Any:
    return typer.Option(metavar="N,N…", help=what)


def _least(least: float, what: str, metavar: str | None = None) -> Any:
    return typer.Option(min=least, metavar=metavar, help=what)


def _text(metavar: str, what: str) -> Any:
    return typer.Option(metavar=metavar, help=what)


@app.command()
def profile(
    endpoint: Annotated[str, _text("URL", "Where it answers, with or without /v1.")],
    accelerator: Annotated[str, _text("NAME", "As scenarios name it.")],
    gpus: Annotated[int, _least(1, "GPUs of the instance.")],
    kv_bytes_per_token: Annotated[int, _least(1, "KV of one token, all layers.")],
    kv_capacity_tokens: Annotated[int, _least(1, "KV tokens that fit: engines log it.")],
    out: Annotated[Path, _text("FILE", "The profile to write.")] = Path("profile.json"),
    model: Annotated[str | None, _text("NAME", "Default: the only one it lists.")] = None,
    parallelism: Annotated[str | None, _text("TEXT", "For the reader. Default: tpN.")] = None,
    api: Annotated[Api, typer.Option(help="Which of the two ways to ask.")] = Api.COMPLETIONS,
    api_key_env: Annotated[
        str | None,
        _text("VARIABLE", f"Where the key is. Default: {KEY_VARIABLE}, if it is set."),
    ] = None,
    prompts: Annotated[str, _list_of("Prompt tokens of prefill points.")] = _joined(
        _DEFAULT.prompts
    ),
    depths: Annotated[str, _list_of("Prompts at once, to check the fit; '' = none.")] = _joined(
        _DEFAULT.depths
    ),
    batches: Annotated[str, _list_of("Sequences of decode points.")] = _joined(_DEFAULT.batches),
    contexts: Annotated[str, _list_of("KV tokens of each sequence.")] = _joined(_DEFAULT.contexts),
    repeats: Annotated[int, _least(1, "Times that every point is sent.")] = _DEFAULT.repeats,
    steps: Annotated[int, _least(16, "Decode steps timed at a point.")] = _DEFAULT.steps,
    timeout_s: Annotated[float, _least(0.1, "Longest silence of an answer.")] = 120.0,
    max_seconds: Annotated[
        float, _least(1.0, "Stop measuring then; what is there is fitted.")
    ] = 1800.0,
    plan_only: Annotated[
        bool, typer.Option("--plan-only", help="Send the probes, show the plan, stop.")
    ] = False,
) -> None:
    """Time prefill and decode of a live endpoint; write a profile that scenarios can use."""
    problems: list[Problem] = []
    grid = Grid(
        prompts=_counts(prompts, "--prompts", 3, problems),
        depths=_counts(depths, "--depths", 0, problems),
        batches=_counts(batches, "--batches", 2, problems),
        contexts=_counts(contexts, "--contexts", 1, problems),
        repeats=repeats,
        steps=steps,
    )
    _check_url(endpoint, problems)
    _check_out(out, problems)
    key = _key(api_key_env, problems)
    if problems:
        raise ConfigError(problems)
    if key is not None:
        _tell_of_key(endpoint, api_key_env or KEY_VARIABLE)
    with OpenAiEndpoint(endpoint, api=api, key=key, timeout_s=timeout_s) as opened:
        served = chosen_model(opened, model)
        measured = _measured(opened, served, grid, kv_capacity_tokens, max_seconds, plan_only)
        url = opened.url
    if measured is None:
        return
    shape = Shape(
        accelerator=accelerator,
        gpus=gpus,
        parallelism=parallelism or f"tp{gpus}",
        kv_bytes_per_token=kv_bytes_per_token,
        kv_capacity_tokens=kv_capacity_tokens,
    )
    table = table_of(measured, served.name, shape, _source(url))
    write_whole(out, tables_text([table], {(accelerator, gpus): observed(measured, table)}))
    _tell_result(out, table, measured)


def _measured(
    endpoint: OpenAiEndpoint,
    model: ServedModel,
    grid: Grid,
    kv_tokens: int,
    max_s: float,
    plan_only: bool,
) -> Measured | None:
    """Return what was measured; None = only the plan was wanted."""
    _tell(f"{endpoint.url}: {model.name}; three probes first")
    profiler = Profiler(endpoint, model, max_s=max_s, tell=_tell)
    probed = profiler.probe()
    plan = profiler.plan(probed, grid, kv_tokens)
    _tell_plan(plan, max_s)
    return None if plan_only else profiler.measure(plan, probed)


def _source(url: str) -> Source:
    return Source(
        name=f"heteroscale profile {url}",
        version=datetime.now(UTC).date().isoformat(),
        licence="own",
        notes="a client's times: front end and network are in them",
    )


def _counts(text: str, where: str, least: int, problems: list[Problem]) -> tuple[int, ...]:
    """Return the counts of a list; a fault of it is added."""
    words = [word.strip() for word in text.split(",")] if text.strip() else []
    if all(word.isdecimal() and 0 < int(word) <= _MOST for word in words):
        counts = tuple(sorted({int(word) for word in words}))
        if len(counts) >= least:
            return counts
    rule = f"must be at least {least} different whole numbers from 1 to {_MOST}, with commas"
    problems.append(Problem(path=where, rule=rule, value=text))
    return ()


def _check_url(text: str, problems: list[Problem]) -> None:
    rule = ""
    try:
        parts = urlsplit(text)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:
            rule = "must be http://HOST[:PORT] or https://HOST[:PORT]"
        elif parts.username is not None or parts.password is not None:
            # Not even the fault may show it.
            rule, text = "must hold no name or key: use --api-key-env", f"{parts.scheme}://…@…"
        elif parts.query or parts.fragment:
            rule = "must end with its path"
    except ValueError as error:
        rule = f"must be a URL: {error}"
    if rule:
        problems.append(Problem(path="--endpoint", rule=rule, value=text))


def _check_out(out: Path, problems: list[Problem]) -> None:
    """Add a fault where the file could not be written, or holds what is no profile of ours."""
    rule = ""
    if out.is_dir():
        rule = "must be a file, not a folder"
    elif not out.parent.is_dir() or not os.access(out.parent, os.W_OK):
        rule = "must be in a folder that can be written"
    elif out.exists():
        try:
            load_tables(out)
        except ConfigError:
            rule = f'must not exist, or be a profile ("{FORMAT}") to replace'
    if rule:
        problems.append(Problem(path="--out", rule=rule, value=str(out)))


def _key(variable: str | None, problems: list[Problem]) -> str | None:
    key = os.environ.get(variable or KEY_VARIABLE, "").strip()
    if not key and variable is not None:
        rule = f"must name an environment variable that is set: {variable} is not"
        problems.append(Problem(path="--api-key-env", rule=rule))
    if not all("!" <= letter <= "~" for letter in key):
        rule = f"must be printable ASCII without spaces in {variable or KEY_VARIABLE}"
        problems.append(Problem(path="--api-key-env", rule=rule))
    return key or None


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _tell_of_key(url: str, variable: str) -> None:
    parts = urlsplit(url)
    if parts.scheme == "http" and parts.hostname not in _LOOPBACK:
        _tell(f"the key of {variable} goes to {parts.hostname} unencrypted: http, not https")


def _tell_plan(plan: Plan, max_s: float) -> None:
    _tell(
        f"plan: {len(plan.waves)} points x {plan.repeats}, {plan.requests:,} requests, "
        f"{plan.prompt_tokens:,} prompt and {plan.answer_tokens:,} answer tokens, "
        f"about {plan.seconds:.0f} s; stops after {max_s:g} s"
    )
    for reason in plan.left_out:
        _tell(f"left out: {reason}")


def _tell_result(out: Path, table: LatencyTable, measured: Measured) -> None:
    if measured.cached_share > _CACHED_NOTICE:
        _tell(
            f"{100 * measured.cached_share:.0f} % of the prompt tokens were cached by the "
            "endpoint's own count: prefill is slower than it looks here"
        )
    prefill, decode = table.prefill_ms, table.decode_fit
    contexts = [point.context for point in table.decode]
    print(
        f"prefill of T tokens: {prefill[0]:.3f} + {prefill[1]:.6f} T + {prefill[2]:.3e} T² ms, "
        f"T from {table.prefill[0][0]:g} to {table.max_prompt_tokens:g}"
    )
    print(_errors("prefill", table.prefill_error, measured.prefill))
    print(
        f"decode of n sequences, K KV tokens: {decode.base:.3f} + {decode.per_sequence:.6f} n + "
        f"{decode.per_kv_token:.3e} K ms, n to {table.max_batch:g}, K/n from {min(contexts):g} "
        f"to {max(contexts):g}"
    )
    if decode.bend is not None:
        print(f"decode: {decode.per_sequence_beyond:.6f} ms for each of n beyond {decode.bend}")
    print(_errors("decode", table.decode_error, measured.decode))
    error = batch_error(table, measured.batches)
    if error is not None:
        print(f"prefill batches, not fitted: at most {100 * error:.1f} % from the fit")
    print(f"profile: {out}")


def _errors(stage: str, error: FitError, timings: Sequence[Timing]) -> str:
    spread = max(timing.spread for timing in timings)
    return (
        f"{stage}: fit is {100 * error.median:.1f} % off at the median, {100 * error.max:.1f} % "
        f"at most; repeats differ by at most {100 * spread:.1f} %"
    )
