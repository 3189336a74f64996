"""`heteroscale profile` against a real HTTP server of known step times, and against faulty ones."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from heteroscale.cli import main
from heteroscale.performance.table_file import load_tables
from tests.unit.adapters.served import KEY, MODEL, Behaviour, Endpoint, served

SHAPE = (
    *("--accelerator", "H20", "--gpus", "8"),
    *("--kv-bytes-per-token", "70272", "--kv-capacity-tokens", "100000"),
)
SMALL = (
    *("--prompts", "250,1000,3000", "--depths", "2", "--batches", "1,4,8"),
    *("--contexts", "200,1000", "--repeats", "2", "--steps", "32"),
)


def run(endpoint: Endpoint | str, out: Path, *words: str) -> int:
    """Run the command line and return its exit code."""
    url = endpoint if isinstance(endpoint, str) else endpoint.url
    with pytest.raises(SystemExit) as stopped:
        main(["profile", "--endpoint", url, "--out", str(out), *SHAPE, *words])
    code = stopped.value.code
    return code if isinstance(code, int) else 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("behaviour", "words"),
    [
        pytest.param(Behaviour(), (), id="one token a chunk, counted along"),
        pytest.param(
            Behaviour(tokens_per_chunk=2, counts_along=False),
            ("--api", "chat", "--repeats", "1"),
            id="two tokens a chunk, counted at the end, as chat",
        ),
    ],
)
def test_it_recovers_the_step_times_of_an_engine(
    behaviour: Behaviour, words: tuple[str, ...], tmp_path: Path
) -> None:
    out = tmp_path / "profile.json"
    with served(behaviour) as endpoint:
        assert run(endpoint, out, *SMALL, *words) == 0
    (table,) = load_tables(out).values()
    assert (table.model, table.accelerator, table.gpus) == (MODEL, "H20", 8)
    assert (table.kv_bytes_per_token, table.kv_capacity_tokens) == (70_272, 100_000)
    assert [round(tokens, -2) for tokens, _ in table.prefill] == [200, 1000, 3000]
    for tokens in (300, 1000, 3000):
        truth_ms = 1000 * (behaviour.prefill_base_s + tokens * behaviour.prefill_per_token_s)
        # A busy machine wakes client and server late, never early.
        assert 0.95 * truth_ms <= table.prefill_time_ms(tokens) <= 1.2 * truth_ms + 40
    for batch, context in ((1, 200), (1, 1000), (4, 1000), (8, 200), (8, 1000)):
        step_s = behaviour.step_base_s + batch * behaviour.step_per_sequence_s
        step_s += batch * context * behaviour.step_per_kv_token_s
        assert table.decode_time_ms(batch, context) == pytest.approx(1000 * step_s, rel=0.15)


def test_no_prompt_begins_like_another(tmp_path: Path) -> None:
    with served(Behaviour()) as endpoint:
        run(endpoint, tmp_path / "profile.json", "--plan-only")
        run(endpoint, tmp_path / "profile.json", "--plan-only")
    beginnings = [prompt.split()[:4] for prompt in endpoint.prompts]
    assert len(beginnings) == len({tuple(words) for words in beginnings}) == 6


def test_the_plan_comes_before_anything_but_the_probes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with served(Behaviour(max_model_len=2500)) as endpoint:
        assert run(endpoint, tmp_path / "profile.json", *SMALL, "--plan-only") == 0
    assert endpoint.asked == ["/v1/models", *["/v1/completions"] * 3]
    told = capsys.readouterr().err.splitlines()
    assert told[0] == f"{endpoint.url}/v1: {MODEL}; three probes first"
    assert told[1].startswith("plan: 10 points x 2, 64 requests, ")
    assert told[2:] == [
        "left out: prefill 1 x 3000: 3002 tokens a request, the endpoint takes 2500",
        "left out: prefill 2 x 3000: 3002 tokens a request, the endpoint takes 2500",
    ]
    assert not (tmp_path / "profile.json").exists()


@pytest.mark.parametrize(
    ("behaviour", "words", "cause"),
    [
        (
            Behaviour(fault="overloaded"),
            (),
            '/v1/completions: answers HTTP 503: {"error": "no instance is ready"}',
        ),
        (
            Behaviour(fault="no such path"),
            (),
            "/v1/completions: answers HTTP 404 (is --api chat what it has?): Not Found",
        ),
        (
            Behaviour(fault="does not stream"),
            (),
            "/v1/completions: does not stream: it answers application/json",
        ),
        (
            Behaviour(fault="silent"),
            ("--timeout-s", "0.2"),
            "/v1/completions: sends nothing for longer than --timeout-s",
        ),
        (
            Behaviour(fault="empty", counts_along=False),
            (),
            "/v1/completions: streams an empty answer (32 tokens by its own count)",
        ),
        (
            Behaviour(fault="no usage", counts_along=False),
            (),
            "/v1/completions: does not say how many tokens there were (usage)",
        ),
        (
            Behaviour(fault="fails halfway"),
            (),
            "/v1/completions: fails while it answers: {'message': 'out of memory'}",
        ),
        (
            Behaviour(fault="ends early"),
            (),
            "/v1/completions: ends its answer before it is complete",
        ),
        (Behaviour(models=()), (), "/v1/models: lists no model"),
        (
            Behaviour(fault="silent"),
            ("--max-seconds", "1", "--api", "chat"),
            "/v1: answers no probe within 1 s",
        ),
    ],
    ids=lambda value: value.fault or "no model" if isinstance(value, Behaviour) else None,
)
def test_a_fault_of_the_endpoint_is_one_line_with_its_address_and_cause(
    behaviour: Behaviour,
    words: tuple[str, ...],
    cause: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with served(behaviour) as endpoint:
        assert run(endpoint, tmp_path / "profile.json", *words) == 1
    assert capsys.readouterr().err.splitlines()[-1] == f"heteroscale: {endpoint.url}{cause}"
    assert list(tmp_path.iterdir()) == []


def test_nobody_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with served(Behaviour()) as endpoint:
        url = endpoint.url
    assert run(url, tmp_path / "profile.json") == 1
    told = capsys.readouterr().err
    assert told.startswith(f"heteroscale: {url}/v1/models: cannot be reached (")


def test_a_key_comes_from_the_environment_and_is_told_to_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ENDPOINT_KEY", KEY)
    with served(Behaviour(key=KEY)) as endpoint:
        words = ("--plan-only", "--api-key-env", "ENDPOINT_KEY")
        assert run(endpoint, tmp_path / "profile.json", *words) == 0
    with served(Behaviour(key="another")) as endpoint:
        assert run(endpoint, tmp_path / "profile.json", *words) == 1
    told = capsys.readouterr()
    cause = '/v1/models: answers HTTP 401: {"error": "incorrect key Bearer ***"}'
    assert told.err.splitlines()[-1] == f"heteroscale: {endpoint.url}{cause}"
    assert KEY not in told.err + told.out


def test_every_fault_of_the_words_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "notes.json").write_text("{}", encoding="utf-8")
    words = ("--prompts", "1,2", "--batches", "0,4", "--contexts", "", "--api-key-env", "NO_KEY")
    url = "http://me:secret@127.0.0.1:1"
    assert run(url, tmp_path / "notes.json", *words) == 2
    most = "different whole numbers from 1 to 10000000, with commas"
    notes = tmp_path / "notes.json"
    rule = 'must not exist, or be a profile ("heteroscale-performance/1") to replace'
    assert capsys.readouterr().err.splitlines() == [
        f"--prompts: must be at least 3 {most}, got '1,2'",
        f"--batches: must be at least 2 {most}, got '0,4'",
        f"--contexts: must be at least 1 {most}, got ''",
        "--endpoint: must hold no name or key: use --api-key-env, got 'http://…@…'",
        f"--out: {rule}, got '{notes}'",
        "--api-key-env: must name an environment variable that is set: NO_KEY is not",
    ]


@pytest.mark.parametrize(
    ("models", "words"), [(("a", "b"), ()), ((MODEL,), ("--model", "large"))], ids=["two", "other"]
)
def test_which_model_is_not_guessed(
    models: tuple[str, ...],
    words: tuple[str, ...],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with served(Behaviour(models=models)) as endpoint:
        assert run(endpoint, tmp_path / "profile.json", *words) == 2
    assert capsys.readouterr().err.startswith(f"--model: must be one of {', '.join(models)}")


@pytest.mark.slow
def test_what_an_engine_cannot_run_at_once_is_left_out_and_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "profile.json"
    grid = ("--prompts", "100,200,400", "--depths", "", "--batches", "1,2,4", "--steps", "16")
    behaviour = Behaviour(most=2, cached_share=0.5, prefill_per_token_s=1e-6)
    with served(behaviour) as endpoint:
        assert run(endpoint, out, *grid, "--contexts", "100,200", "--repeats", "1") == 0
    written = json.loads(out.read_text(encoding="utf-8"))["tables"][0]
    assert written["decode"]["batch"] == [1, 2]
    reason = "the answers hardly overlapped: fewer than 4 ran at once"
    assert written["observed"]["left_out"] == [
        f"decode 4 x 92: {reason}",
        f"decode 4 x 192: {reason}",
    ]
    assert "of the prompt tokens were cached" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["Ctrl-C", "SIGTERM"]
)
def test_who_stops_it_finds_nothing_half_written(
    sent: signal.Signals, code: int, tmp_path: Path
) -> None:
    out = tmp_path / "profile.json"
    with served(Behaviour(step_base_s=0.05)) as endpoint:
        words = ["--endpoint", endpoint.url, "--out", str(out), *SHAPE, *SMALL]
        command = [
            sys.executable,
            "-c",
            "from heteroscale.cli import main; main()",
            "profile",
            *words,
        ]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr is not None
            for line in process.stderr:
                if line.startswith("[1/"):
                    break
            process.send_signal(sent)
            rest = process.stderr.read()
        assert process.returncode == code
    assert rest.splitlines()[-1] in ("heteroscale: interrupted", "heteroscale: terminated")
    assert list(tmp_path.iterdir()) == []
