"""A ScaledService read: every fault at once, and what is left out taken from its workloads."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import yaml

from heteroscale.config.check import check_file
from heteroscale.config.cluster_sections import ScalableKind, WorkloadSection
from heteroscale.config.crd import crd_text
from heteroscale.config.scaled_service import (
    Asked,
    Held,
    HeldBy,
    asked_by,
    parse_scaled_service,
    read_scaled_service,
)
from heteroscale.config.scaled_service_sections import ScaledServiceFile
from heteroscale.entities.service import AcceleratorOption, GroupSpec, Mode, RoleSpec, Stage
from heteroscale.errors import ConfigError
from tests.unit.config.scaled_services import BAD, GOOD, Resource, nested, resource
from tests.unit.config.texts import REPO

HELD = {
    (ScalableKind.DEPLOYMENT, "chat-prefill"): Held(accelerator="H800", gpus=8),
    (ScalableKind.DEPLOYMENT, "chat-decode"): Held(accelerator="H20", gpus=4),
}


def asked(made: Resource, held: HeldBy = HELD) -> Asked:
    return asked_by(read_scaled_service(made), held, 15.0)


def faults(make: Callable[[], object]) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        make()
    return [str(problem) for problem in caught.value.problems]


def test_the_committed_definition_is_what_the_models_say() -> None:
    written = (REPO / "deploy" / "crds" / "scaledservices.yaml").read_text(encoding="utf-8")
    assert written == crd_text(), "run `make docs`"


def test_the_example_is_one() -> None:
    held = check_file(REPO / "examples" / "scaled-service.yaml")
    assert isinstance(held, ScaledServiceFile)
    assert (held.metadata.name, held.spec.mode) == ("chat", Mode.OBSERVE)


@pytest.mark.parametrize("make", GOOD.values(), ids=GOOD)
def test_what_the_api_server_takes_is_read(make: Callable[[], Resource]) -> None:
    assert read_scaled_service(make()).metadata.name == "chat"


@pytest.mark.parametrize(("make", "_", "says"), BAD.values(), ids=BAD)
def test_what_the_api_server_refuses_is_a_fault(
    make: Callable[[], Resource], _: str, says: str
) -> None:
    assert any(one.startswith(says) for one in faults(lambda: read_scaled_service(make())))


def test_every_fault_is_told_at_once() -> None:
    made = resource(priority=101, pin={"d": 1}, mode="act")
    assert faults(lambda: read_scaled_service(made)) == [
        "spec.mode: must be one of observe, recommend, enforce, got 'act'",
        "spec.pin.d: must be a role with instances: prefill, decode",
        "spec.priority: must be ≤ 100, got 101",
    ]


def test_faults_in_a_file_have_lines() -> None:
    text = yaml.safe_dump(resource(priority=101), sort_keys=False)
    line = text.splitlines().index("  priority: 101") + 1
    assert faults(lambda: parse_scaled_service(text, "chat.yaml")) == [
        f"chat.yaml:{line}: spec.priority: must be ≤ 100, got 101"
    ]


def test_an_object_has_one_place() -> None:
    roles = resource()["spec"]["roles"]
    roles["prefill"]["workloads"] = roles["decode"]["workloads"]
    assert faults(lambda: read_scaled_service(resource(roles=roles))) == [
        "spec.roles.decode.workloads[0]: must not name an object twice"
    ]


def test_a_resource_becomes_a_service_and_its_workloads() -> None:
    found = asked(resource(mode="recommend", priority=7))
    assert found.spec.group == GroupSpec(
        roles=(
            RoleSpec(
                path="prefill",
                stage=Stage.PREFILL,
                share=9,
                accelerators=(AcceleratorOption(type="H800", gpus=8),),
            ),
            RoleSpec(
                path="decode",
                stage=Stage.DECODE,
                share=7,
                accelerators=(AcceleratorOption(type="H20", gpus=4),),
            ),
        )
    )
    assert (found.spec.name, found.spec.mode, found.spec.priority) == ("chat", Mode.RECOMMEND, 7)
    assert found.workloads == tuple(
        WorkloadSection(
            service="chat",
            role=role,
            accelerator=accelerator,
            kind=ScalableKind.DEPLOYMENT,
            namespace="serving",
            name=f"chat-{role}",
        )
        for role, accelerator in (("prefill", "H800"), ("decode", "H20"))
    )


def test_what_is_written_goes_before_what_a_workload_holds() -> None:
    roles = resource()["spec"]["roles"]
    roles["decode"]["workloads"] = [
        {"kind": "Deployment", "name": "chat-decode", "accelerator": "L40", "gpus": 2}
    ]
    decode = asked(resource(roles=roles)).spec.group.roles[1]
    assert decode.accelerators == (AcceleratorOption(type="L40", gpus=2),)


def test_parts_of_a_role_have_the_stage_and_the_path_of_the_whole() -> None:
    held = {
        **HELD,
        (ScalableKind.STATEFUL_SET, "a"): Held(accelerator="H20", gpus=1),
        (ScalableKind.STATEFUL_SET, "f"): Held(accelerator="H20", gpus=1),
    }
    found = asked(resource(roles=nested()), held)
    assert [(one.path, one.stage) for one in found.spec.group.leaves()] == [
        ("prefill/attention", Stage.PREFILL),
        ("prefill/ffn", Stage.PREFILL),
        ("decode", Stage.DECODE),
    ]
    assert [one.role for one in found.workloads] == ["prefill/attention", "prefill/ffn", "decode"]


def test_what_nobody_says_is_asked_for_all_at_once() -> None:
    assert faults(lambda: asked(resource(), {})) == [
        f"spec.roles.{role}.workloads[0].{key}: {rule}"
        for role in ("prefill", "decode")
        for key, rule in (
            (
                "accelerator",
                "is required: neither its pod template nor the cluster's nodes leave one choice",
            ),
            ("gpus", "is required: no container of a pod template asks for GPUs"),
        )
    ]


def test_two_workloads_of_a_role_turn_out_to_be_on_one_accelerator() -> None:
    roles = resource()["spec"]["roles"]
    roles["decode"]["workloads"].append({"kind": "Deployment", "name": "chat-prefill"})
    roles["prefill"]["workloads"] = [{"kind": "StatefulSet", "name": "p"}]
    same = Held(accelerator="H20", gpus=1)
    held = {
        (ScalableKind.DEPLOYMENT, "chat-decode"): same,
        (ScalableKind.DEPLOYMENT, "chat-prefill"): same,
        (ScalableKind.STATEFUL_SET, "p"): same,
    }
    assert faults(lambda: asked(resource(roles=roles), held)) == [
        "spec.roles.decode.workloads[1]: must not be on H20 as another workload of the role is"
    ]


def test_a_window_that_would_never_fill_is_a_fault() -> None:
    file = read_scaled_service(resource())
    (fault,) = faults(lambda: asked_by(file, HELD, 100.0))
    path = "spec.policy.guard.stabilization_window_s"
    rule = "would never fill with ticks 100 s apart: must be longer, or 0, got 300.0"
    assert fault == f"{path}: {rule}"
