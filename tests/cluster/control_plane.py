"""A real Kubernetes control plane with a fake kubelet, on free ports of this machine alone.

The programs are built from Go modules by `make test-cluster` into a folder that HETEROSCALE_CLUSTER
names; without them every test here skips with a message.
"""

from __future__ import annotations

import os
import signal
import ssl
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event

import httpx
import pytest
import yaml

from tests.ports import free_ports

STAGES = Path(__file__).parent / "stages.yaml"
TOKEN = "admin-of-this-test"
#: users that may do what the chart's account may: who did what stands in the audit log by name
CONTROLLERS = ("first-controller", "second-controller")
#: a user that may do nothing
NOBODY = "nobody"
#: seconds until what is awaited must be there; the machine may be busy
PATIENCE_S = 60.0
PACE_S = 0.02


@dataclass(frozen=True)
class ControlPlane:
    """Where the API server is, and the way in."""

    url: str
    kubeconfig: Path
    folder: Path
    #: what the API server was asked, one JSON object a line
    audit: Path

    @property
    def controller(self) -> Path:
        """Return the way in of the account that the chart makes, once it is there."""
        return self.folder / "kubeconfig-heteroscale"

    def client(self, token: str = TOKEN) -> httpx.Client:
        """Return a client that may do everything, or what its token may."""
        return httpx.Client(
            base_url=self.url,
            headers={"Authorization": f"Bearer {token}"},
            verify=ssl.create_default_context(cafile=self.folder / "certs" / "apiserver.crt"),
            timeout=30.0,
        )

    def kubeconfig_of(self, user: str, token: str, namespace: str = "default") -> Path:
        """Return a file with the way in of somebody else than the admin."""
        path = self.folder / f"kubeconfig-{user}"
        config = _kubeconfig(self, user, token, namespace)
        path.write_text(yaml.safe_dump(config), encoding="utf-8")
        return path


def programs() -> Path:
    """Return the folder of the built programs, or skip."""
    named = os.environ.get("HETEROSCALE_CLUSTER")
    if not named or not (Path(named) / "kube-apiserver").exists():
        pytest.skip("no Kubernetes control plane is built: make test-cluster builds one")
    return Path(named)


@contextmanager
def control_plane(folder: Path) -> Iterator[ControlPlane]:
    """Run etcd, API server, controllers, scheduler and fake kubelet; stop them in reverse."""
    binaries = programs()
    etcd_port, peer_port, api_port, *others = free_ports(6)
    url = f"https://127.0.0.1:{api_port}"
    plane = ControlPlane(url, folder / "kubeconfig", folder, folder / "audit.log")
    _write_files(plane)
    with ExitStack() as running:

        def start(name: str, *arguments: str) -> None:
            running.enter_context(_program(binaries / name, arguments, folder / f"{name}.log"))

        start("etcd", *_etcd(folder, etcd_port, peer_port))
        start("kube-apiserver", *_api_server(plane, etcd_port, api_port))
        certificate = folder / "certs" / "apiserver.crt"
        until(lambda: certificate.exists() and _ready(plane), "the API server answers")
        start("kube-controller-manager", *_client_of(plane, others[0]), *_controllers(folder))
        start("kube-scheduler", *_client_of(plane, others[1]))
        kubelet = ("--kubeconfig", str(plane.kubeconfig), "--manage-all-nodes=true")
        server = f"--server-address=127.0.0.1:{others[2]}"
        start("kwok", *kubelet, server, "--config", str(STAGES))
        yield plane


def _write_files(plane: ControlPlane) -> None:
    folder = plane.folder
    (folder / "certs").mkdir()
    tokens = f"{TOKEN},admin,admin,system:masters\n"
    tokens += "".join(f"{name},{name},{name}\n" for name in (*CONTROLLERS, NOBODY))
    (folder / "tokens.csv").write_text(tokens, encoding="utf-8")
    subprocess.run(
        ["openssl", "genrsa", "-out", str(folder / "sa.key"), "2048"],
        check=True,
        capture_output=True,
    )
    rules = {"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": [{"level": "Metadata"}]}
    (folder / "audit.yaml").write_text(yaml.safe_dump(rules), encoding="utf-8")
    config = _kubeconfig(plane, "admin", TOKEN)
    plane.kubeconfig.write_text(yaml.safe_dump(config), encoding="utf-8")


def _kubeconfig(
    plane: ControlPlane, user: str, token: str, namespace: str = "default"
) -> dict[str, object]:
    certificate = str(plane.folder / "certs" / "apiserver.crt")
    cluster = {"server": plane.url, "certificate-authority": certificate}
    context = {"cluster": "test", "user": user, "namespace": namespace}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "test", "cluster": cluster}],
        "users": [{"name": user, "user": {"token": token}}],
        "contexts": [{"name": "test", "context": context}],
        "current-context": "test",
    }


def _etcd(folder: Path, port: int, peer_port: int) -> Sequence[str]:
    client, peer = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{peer_port}"
    return (
        f"--data-dir={folder / 'etcd'}",
        "--unsafe-no-fsync=true",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
    )


def _api_server(plane: ControlPlane, etcd_port: int, port: int) -> Sequence[str]:
    folder = plane.folder
    return (
        f"--etcd-servers=http://127.0.0.1:{etcd_port}",
        "--bind-address=127.0.0.1",
        "--advertise-address=127.0.0.1",
        f"--secure-port={port}",
        f"--cert-dir={folder / 'certs'}",
        f"--token-auth-file={folder / 'tokens.csv'}",
        "--authorization-mode=RBAC",
        "--service-cluster-ip-range=10.0.0.0/24",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={folder / 'sa.key'}",
        f"--service-account-signing-key-file={folder / 'sa.key'}",
        "--disable-admission-plugins=TaintNodesByCondition",
        "--endpoint-reconciler-type=none",
        f"--audit-policy-file={folder / 'audit.yaml'}",
        f"--audit-log-path={plane.audit}",
    )


def _client_of(plane: ControlPlane, port: int) -> Sequence[str]:
    return (
        f"--kubeconfig={plane.kubeconfig}",
        f"--authentication-kubeconfig={plane.kubeconfig}",
        f"--authorization-kubeconfig={plane.kubeconfig}",
        "--authentication-skip-lookup=true",
        "--bind-address=127.0.0.1",
        f"--secure-port={port}",
        "--leader-elect=false",
        "--kube-api-qps=1000",
        "--kube-api-burst=2000",
    )


def _controllers(folder: Path) -> Sequence[str]:
    names = (
        "deployment",
        "replicaset",
        "statefulset",
        "horizontal-pod-autoscaler",
        "disruption",
        "endpointslice",
        "garbage-collector",
        "namespace",
        "serviceaccount",
        "root-ca-certificate-publisher",
    )
    return (
        f"--service-account-private-key-file={folder / 'sa.key'}",
        "--concurrent-deployment-syncs=20",
        "--concurrent-replicaset-syncs=20",
        "--concurrent-gc-syncs=40",
        f"--controllers={','.join(f'{name}-controller' for name in names)}",
    )


@contextmanager
def _program(binary: Path, arguments: Sequence[str], log: Path) -> Iterator[None]:
    with (
        log.open("wb") as output,
        subprocess.Popen([binary, *arguments], stdout=output, stderr=output) as process,
    ):
        try:
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(10.0)
            except subprocess.TimeoutExpired:
                process.kill()


def _ready(plane: ControlPlane) -> bool:
    try:
        with plane.client() as client:
            return client.get("/readyz").status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False


def until(holds: Callable[[], bool], what: str) -> None:
    """Ask again and again until something holds."""
    nap = Event()
    for _ in range(int(PATIENCE_S / PACE_S)):
        if holds():
            return
        nap.wait(PACE_S)
    pytest.fail(f"not within {PATIENCE_S:g} s: {what}")
