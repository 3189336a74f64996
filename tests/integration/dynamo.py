"""NVIDIA Dynamo as a test starts it: its front end before mocker instances of known step times."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.ports import free_ports

HERE = Path(__file__).resolve().parent
MODEL = "tiny"
#: prefill of T tokens, a decode step of K KV tokens; straight lines, ms
PREFILL_BASE_MS, PREFILL_MS_PER_TOKEN = 8.0, 0.052
DECODE_BASE_MS, DECODE_MS_PER_KV_TOKEN = 20.0, 100e-6
KV_BYTES_PER_TOKEN = 131_072
KV_TOKENS = 16_384 * 64
#: folder of the discovery records
DISCOVERY = "discovery"
_READY_S = 60.0
_STOP_S = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """Where the processes run: words before a command that put it there."""

    prefix: tuple[str, ...]


@contextmanager
def own_network() -> Iterator[Network]:
    """Yield a network namespace of our own, or the machine's network where none may be made."""
    unshare = shutil.which("unshare")
    enter = (("--net",), ("--user", "--preserve-credentials", "--net"))
    for make, come in zip((("--net",), ("--map-root-user", "--net")), enter, strict=True):
        if unshare is None:
            break
        command = [unshare, *make, sys.executable, str(HERE / "own_network.py")]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as holder:
            assert holder.stdout is not None
            if holder.stdout.readline() == b"up\n":
                yield Network(prefix=("nsenter", "--target", str(holder.pid), *come))
                return
    print("no network namespace may be made here: Dynamo's event plane listens on every interface")
    yield Network(prefix=())


@dataclass(frozen=True, slots=True, kw_only=True)
class Dynamo:
    """A running front end."""

    url: str
    network: Network


@contextmanager
def running(python: Path, folder: Path, instances: Sequence[Sequence[str]]) -> Iterator[Dynamo]:
    """Serve while inside.

    Args:
        python: of Dynamo's environment.
        folder: for its files and logs; must be empty.
        instances: of each mocker process, what it is told beside the model and the step times.
    """
    make_model(python, folder)
    with ExitStack() as stack:
        network = stack.enter_context(own_network())
        (port,) = free_ports(1)
        url = f"http://127.0.0.1:{port}"
        commands = [
            ("frontend", "--http-port", str(port)),
            *(("mocker", *engine_words(folder), *words) for words in instances),
        ]
        for place, (module, *words) in enumerate(commands):
            log = stack.enter_context((folder / f"{place}-{module}.log").open("wb"))
            command = [*network.prefix, str(python), "-m", f"dynamo.{module}", *words]
            process = subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT, env=environment(folder)
            )
            stack.callback(_stop, process)
        waiter = [sys.executable, str(HERE / "wait_for_model.py"), url, MODEL, str(_READY_S)]
        if subprocess.run([*network.prefix, *waiter], check=False).returncode:
            logs = sorted(folder.glob("*.log"))
            told = "\n".join(
                f"{log.name}: {log.read_text(errors='replace')[-1500:]}" for log in logs
            )
            raise AssertionError(f"no model after {_READY_S:g} s\n{told}")
        yield Dynamo(url=url, network=network)


def make_model(python: Path, folder: Path) -> None:
    """Write what every engine is told of the model: files that pass for it, and step times."""
    subprocess.run([python, HERE / "tiny_model.py", folder / "model"], check=True)
    _write_step_times(folder / "step_times.npz")


def engine_words(folder: Path) -> tuple[str, ...]:
    """Return what every mocker is told."""
    return (
        *("--model-path", str(folder / "model"), "--model-name", MODEL),
        *("--planner-profile-data", str(folder / "step_times.npz")),
        *("--kv-bytes-per-token", str(KV_BYTES_PER_TOKEN)),
        *("--num-gpu-blocks-override", str(KV_TOKENS // 64), "--block-size", "64"),
    )


def environment(folder: Path) -> dict[str, str]:
    """Return the environment of Dynamo's processes: everything on loopback, discovery in files."""
    here = "127.0.0.1"
    loopback = (
        "DYN_TCP_RPC_HOST",
        "DYN_TCP_RESPONSE_STREAM_HOST",
        "DYN_SYSTEM_HOST",
        "DYN_HTTP_HOST",
    )
    return {
        **{name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        **dict.fromkeys(loopback, here),
        "DYN_DISCOVERY_BACKEND": "file",
        "DYN_FILE_KV": str(folder / DISCOVERY),
        "DYN_REQUEST_PLANE": "tcp",
        "DYN_NAMESPACE": "dynamo",
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
    }


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _write_step_times(path: Path) -> None:
    """Write both ends of each line; the mocker interpolates between them."""
    tokens, kv_tokens = np.array([0.0, 32_768.0]), np.array([0.0, 4e6])
    step_ms = DECODE_BASE_MS + DECODE_MS_PER_KV_TOKEN * kv_tokens
    np.savez(
        path,
        prefill_isl=tokens,
        prefill_ttft_ms=PREFILL_BASE_MS + PREFILL_MS_PER_TOKEN * tokens,
        decode_active_kv_tokens=kv_tokens,
        decode_context_length=np.array([1.0, 200_000.0]),
        decode_itl=np.stack([step_ms, step_ms], axis=1),
    )
