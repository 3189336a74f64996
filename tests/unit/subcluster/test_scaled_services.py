"""Which ScaledServices are looked after: each is judged by itself, the oldest first."""

from __future__ import annotations

from typing import Any

from heteroscale.config.cluster_sections import ClusterFile, ScalableKind, WorkloadSection
from heteroscale.config.load import parse_fleet
from heteroscale.config.scaled_service import Held
from heteroscale.entities.service import FleetSpec
from heteroscale.subcluster.pod_templates import held_by
from heteroscale.subcluster.scalables import KubeObject
from heteroscale.subcluster.scaled_services import Refusal, Sorter
from heteroscale.subcluster.watched import key_of
from tests.unit.config.scaled_services import resource
from tests.unit.config.texts import MINIMAL

FILE = ClusterFile(namespaces=("serving", "trial"))
NO_FLEET = FleetSpec(services=())
TEMPLATE = {
    "spec": {
        "nodeSelector": {"nvidia.com/gpu.product": "H20"},
        "containers": [{"resources": {"limits": {"nvidia.com/gpu": "4"}}}, {}],
    }
}


class Cluster:
    """Objects by kind, namespace and name, all of them Deployments of one template."""

    def __init__(self, *names: str, unlisted: str = "", template: Any = TEMPLATE) -> None:
        self._names = names or ("serving/chat-prefill", "serving/chat-decode")
        self._unlisted = unlisted
        self._template = template

    def unlisted(self, kind: ScalableKind, namespace: str) -> str:
        there = kind is ScalableKind.DEPLOYMENT
        return self._unlisted or ("" if there else f"{kind} in {namespace}: HTTP 404")

    def found(self, kind: ScalableKind, namespace: str, name: str) -> KubeObject | None:
        return (
            {"spec": {"template": self._template}} if f"{namespace}/{name}" in self._names else None
        )

    def only_accelerator(self) -> str | None:
        return None


def made(
    name: str = "chat", namespace: str = "serving", *, at: int = 0, generation: int = 1, **spec: Any
) -> dict[str, Any]:
    """Return a resource as the API server returns it, made at some minute."""
    written = resource(**spec)
    written["metadata"] = {
        "name": name,
        "namespace": namespace,
        "uid": f"{namespace}-{name}",
        "generation": generation,
        "creationTimestamp": f"2026-09-01T12:{at:02}:00Z",
        "labels": {"team": "chat"},
    }
    return written


def refused(
    *resources: KubeObject,
    cluster: Cluster | None = None,
    fleet: FleetSpec = NO_FLEET,
    file: ClusterFile = FILE,
) -> dict[str, Refusal]:
    sorter = Sorter(file, fleet, cluster or Cluster())
    found = sorter.sort_out({key_of(one): one for one in resources})
    assert len(found.asked) + len(found.refused) == len(resources)
    return {"/".join(key): refusal for key, refusal in found.refused.items()}


def other(*names: str) -> dict[str, Any]:
    """Return roles that other Deployments hold."""
    prefill, decode = names
    return {
        "prefill": {"share": 1, "workloads": [{"kind": "Deployment", "name": prefill}]},
        "decode": {"share": 1, "workloads": [{"kind": "Deployment", "name": decode}]},
    }


def test_a_resource_is_looked_after_as_its_workloads_say() -> None:
    sorter = Sorter(FILE, NO_FLEET, Cluster())
    found = sorter.sort_out({("serving", "chat"): made()})
    assert found.refused == {}
    (spec,) = found.specs()
    assert [(one.type, one.gpus) for leaf in spec.group.leaves() for one in leaf.accelerators] == [
        ("H20", 4),
        ("H20", 4),
    ]
    assert [(one.role, one.namespace, one.name) for one in found.workloads()] == [
        ("prefill", "serving", "chat-prefill"),
        ("decode", "serving", "chat-decode"),
    ]


def test_all_that_is_wrong_with_one_is_said_and_stops_no_other() -> None:
    zone = {"name": "n", "timezone": "Mars", "days": ["mon"], "start": "22:00", "end": "06:00"}
    policy = {"schedules": [{**zone, "replicas": {"decode": 1, "encode": 1}}]}
    wrong = made("wrong", at=1, policy=policy)
    assert refused(wrong, made(at=2)) == {
        "serving/wrong": Refusal(
            reason="Invalid",
            message="spec.policy.schedules[0].replicas.encode: must be a role with instances:"
            " prefill, decode; spec.policy.schedules[0].timezone: must be an IANA time zone such"
            " as Europe/Berlin, got 'Mars'",
        )
    }


def test_a_service_in_both_is_the_files() -> None:
    message = "chat is a service of the services file, which goes first"
    found = refused(made(), fleet=parse_fleet(MINIMAL, None))
    assert found == {"serving/chat": Refusal(reason="NameTaken", message=message)}


def test_of_two_of_one_name_the_older_is_looked_after() -> None:
    cluster = Cluster("serving/a", "serving/b", "trial/a", "trial/b")
    older = made(namespace="trial", at=1, roles=other("a", "b"))
    younger = made(at=2, roles=other("a", "b"))
    message = "chat is a service of ScaledService trial/chat, which goes first"
    assert refused(younger, older, cluster=cluster) == {
        "serving/chat": Refusal(reason="NameTaken", message=message)
    }


def test_an_object_is_scaled_for_one_service_only() -> None:
    cluster = Cluster("serving/a", "serving/b", "serving/c")
    first, second = made("first", at=1, roles=other("a", "b")), made("second", at=2)
    second["spec"]["roles"] = other("b", "c")
    message = "Deployment serving/b is scaled for service first, which goes first"
    assert refused(first, second, cluster=cluster) == {
        "serving/second": Refusal(reason="WorkloadTaken", message=message)
    }


def test_an_object_of_the_cluster_file_stays_its() -> None:
    workload = WorkloadSection(
        service="old",
        role="decode",
        accelerator="H20",
        kind=ScalableKind.DEPLOYMENT,
        namespace="serving",
        name="chat-decode",
    )
    file = FILE.model_copy(update={"workloads": (workload,)})
    message = "Deployment serving/chat-decode is scaled for service old, which goes first"
    assert refused(made(), file=file) == {
        "serving/chat": Refusal(reason="WorkloadTaken", message=message)
    }


def test_workloads_that_are_not_there_are_named_all_at_once() -> None:
    message = "Deployment serving/a is not there; Deployment serving/b is not there"
    assert refused(made(roles=other("a", "b"))) == {
        "serving/chat": Refusal(reason="WorkloadMissing", message=message)
    }


def test_what_cannot_be_listed_is_not_taken_as_missing() -> None:
    roles = other("chat-prefill", "sets")
    roles["decode"]["workloads"][0]["kind"] = "LeaderWorkerSet"
    assert refused(made(roles=roles), made("other", at=1)) == {
        "serving/chat": Refusal(
            reason="WorkloadsUnknown", message="LeaderWorkerSet in serving: HTTP 404"
        )
    }


def test_what_no_template_says_is_asked_for() -> None:
    bare = Cluster(template={"spec": {"containers": [{}]}})
    (only,) = refused(made(), cluster=bare).values()
    assert only.reason == "Invalid"
    assert only.message.count("is required") == 4


def test_what_has_not_changed_is_not_made_anew() -> None:
    sorter = Sorter(FILE, NO_FLEET, Cluster())
    before = sorter.sort_out({("serving", "chat"): made()})
    same = sorter.sort_out({("serving", "chat"): {**made(), "status": {"mode": "enforce"}}})
    assert same.specs()[0] is before.specs()[0]
    changed = sorter.sort_out({("serving", "chat"): made(generation=2, priority=9)})
    assert changed.specs()[0].priority == 9
    assert sorter.sort_out({}).specs() == ()


def test_the_places_of_what_can_be_read_are_known_before_they_are_looked_at() -> None:
    sorter = Sorter(FILE, NO_FLEET, Cluster(unlisted="not listed yet"))
    found = sorter.places([made(), made("bad", mode="never")])
    assert found == {(ScalableKind.DEPLOYMENT, "serving")}


AFFINITY = {
    "nodeAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [
                {
                    "matchExpressions": [
                        {"key": "zone", "operator": "In", "values": ["a"]},
                        {
                            "key": "nvidia.com/gpu.product",
                            "operator": "In",
                            "values": ["NVIDIA-H20"],
                        },
                    ]
                }
            ]
        }
    }
}


def test_a_template_tells_the_accelerator_by_its_affinity_and_the_cluster_files_names() -> None:
    nodes = FILE.nodes.model_copy(update={"accelerators": {"NVIDIA-H20": "H20"}})
    limits = {"limits": {"nvidia.com/gpu": "1"}}
    spec = {"affinity": AFFINITY, "containers": [{"resources": limits}]}
    found = {"spec": {"template": {"spec": spec}}}
    assert held_by(ScalableKind.STATEFUL_SET, found, nodes, None) == Held(accelerator="H20", gpus=1)


def test_a_group_of_pods_tells_what_one_of_its_pods_holds() -> None:
    found = {"spec": {"leaderWorkerTemplate": {"size": 1, "workerTemplate": TEMPLATE}}}
    kind = ScalableKind.LEADER_WORKER_SET
    assert held_by(kind, found, FILE.nodes, None) == Held(accelerator="H20", gpus=4)


def test_a_kind_without_a_template_knows_the_clusters_only_accelerator() -> None:
    kind = ScalableKind.ROLE_BASED_GROUP_SCALING_ADAPTER
    assert held_by(kind, {"spec": {}}, FILE.nodes, "H20") == Held(accelerator="H20")
