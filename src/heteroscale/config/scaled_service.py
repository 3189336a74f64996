"""A `ScaledService` read and checked, and turned into the service and workloads that it names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from heteroscale.config.cluster import component_rules
from heteroscale.config.cluster_sections import ScalableKind, WorkloadSection
from heteroscale.config.document import Document, parse_document, tuples
from heteroscale.config.load import checked
from heteroscale.config.policy_rules import policy_rules, repeated
from heteroscale.config.rules import count_rules, leaf_roles, role_rules, unit_rules
from heteroscale.config.scaled_service_sections import (
    ScaledLeafSection,
    ScaledRoleSection,
    ScaledServiceFile,
    ScaledWorkloadSection,
    instant_s,
)
from heteroscale.config.services import stage_of
from heteroscale.config.view import Fault, View
from heteroscale.entities.service import AcceleratorOption, GroupSpec, RoleSpec, ServiceSpec, Stage
from heteroscale.errors import ConfigError, InvariantViolation, Problem
from heteroscale.policy.window import gap_limit_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What a workload says of its instances by itself; None = it does not."""

    accelerator: str | None = None
    gpus: int | None = None


#: (kind, name) of a workload in the resource's namespace → what it holds
HeldBy: TypeAlias = Mapping[tuple[ScalableKind, str], Held]


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """The plan of a service that may be carried out, and until when, epoch seconds."""

    plan: str
    until_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A service that a resource asks for, and the workloads that are its roles."""

    spec: ServiceSpec
    workloads: tuple[WorkloadSection, ...]
    approval: Approval | None = None


def parse_scaled_service(text: str, file: str | None) -> ScaledServiceFile:
    """Return the resource in a text; `file` is how problems name it.

    Raises:
        ConfigError: with every problem in the text, in the order of its lines.
    """
    return checked(parse_document(text, file), ScaledServiceFile, scaled_service_rules)


def read_scaled_service(found: Mapping[str, Any]) -> ScaledServiceFile:
    """Return the resource in an object as the API server returns it.

    Raises:
        ConfigError: with every problem of it.
    """
    document = Document(file=None, value=tuples(found), lines={})
    return checked(document, ScaledServiceFile, scaled_service_rules)


def scaled_service_rules(file: View) -> Iterator[Fault]:
    """Yield what is wrong between the fields of a resource."""
    spec = file.at("spec")
    roles = spec.at("roles")
    for name, role in roles.entries():
        yield from role_rules(role, name, None, ("workloads", _workload_rules))
    if not roles.entries():
        return
    leaves = leaf_roles(roles)
    named: set[tuple[str | None, ...]] = set()
    for leaf in leaves.values():
        for workload in leaf.at("workloads").items():
            target = tuple(workload.at(key).text("") for key in ("kind", "name", "component"))
            if None not in target[:2] and target in named:
                yield Fault(view=workload, rule="must not name an object twice", shown=False)
            named.add(target)
    top = tuple(name for name, _ in roles.entries())
    yield from policy_rules(spec.at("policy"), tuple(leaves), top)
    yield from count_rules(spec.at("pin"), leaves)


def asked_by(file: ScaledServiceFile, held: HeldBy, interval_s: float) -> Asked:
    """Return what a resource asks for, what it leaves out taken from its workloads.

    Args:
        interval_s: of the controller; a stabilization window must be able to fill with it.

    Raises:
        ConfigError: with everything that nobody says, and a window that would never fill.
    """
    reading = _Reading(file=file, held=held)
    roles = tuple(
        reading.role(f"spec.roles.{name}", name, role, None)
        for name, role in file.spec.roles.items()
    )
    problems = (*reading.problems, *_window_problems(file, interval_s))
    if problems:
        raise ConfigError(problems)
    spec = ServiceSpec(
        name=file.metadata.name,
        priority=file.spec.priority,
        slo=file.spec.slo.entity(),
        group=GroupSpec(roles=roles),
        policy=file.spec.policy.entity(),
        lifecycle=file.spec.lifecycle.entity(),
        mode=file.spec.mode,
        pause=file.spec.pause.entity(),
        pin=file.spec.pin,
    )
    given = file.spec.approval
    approval = Approval(plan=given.plan, until_s=instant_s(given.until)) if given else None
    return Asked(spec=spec, workloads=tuple(reading.workloads), approval=approval)


def _workload_rules(workloads: View) -> Iterator[Fault]:
    if not workloads.sound:
        return
    each = tuple(workloads.items())
    if not each:
        rule = "must name at least one workload, or the role must have roles of its own"
        yield Fault(view=workloads, rule=rule, shown=False)
        return
    yield from repeated(one.at("accelerator") for one in each)
    yield from unit_rules(each[0].at("capacity"), "workload")
    for one in each:
        kind = one.at("kind").text()
        if kind in set(ScalableKind):
            yield from component_rules(one, ScalableKind(kind))


@dataclass(slots=True, kw_only=True)
class _Reading:
    """One walk over the roles of a resource; collects workloads and faults on the way."""

    file: ScaledServiceFile
    held: HeldBy
    workloads: list[WorkloadSection] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def role(self, at: str, path: str, role: ScaledLeafSection, parent: Stage | None) -> RoleSpec:
        """Return the entity of the role at `path` below a role of stage `parent`.

        Args:
            at: its place in the resource.
        """
        stage = stage_of(path, role.stage, parent)
        if stage is None:
            raise InvariantViolation(f"the rules let the role {path} pass without a stage")
        options: dict[str, AcceleratorOption] = {}
        for index, workload in enumerate(role.workloads):
            where = f"{at}.workloads[{index}]"
            option = self._option(where, workload)
            if option.type in options:
                rule = f"must not be on {option.type} as another workload of the role is"
                self.problems.append(Problem(path=where, rule=rule))
            options[option.type] = option
            self._add(path, workload, option.type)
        children = role.roles if isinstance(role, ScaledRoleSection) else {}
        return RoleSpec(
            path=path,
            stage=stage,
            share=role.share,
            accelerators=tuple(options.values()),
            min_replicas=role.min_replicas,
            max_replicas=role.max_replicas,
            roles=tuple(
                self.role(f"{at}.roles.{name}", f"{path}/{name}", child, stage)
                for name, child in children.items()
            ),
        )

    def _option(self, where: str, workload: ScaledWorkloadSection) -> AcceleratorOption:
        """Return how a workload builds an instance; what nobody says is a problem."""
        known = self.held.get((workload.kind, workload.name), Held())
        accelerator = workload.accelerator or known.accelerator
        gpus = workload.gpus or known.gpus
        if accelerator is None:
            rule = "is required: neither its pod template nor the cluster's nodes leave one choice"
            self.problems.append(Problem(path=f"{where}.accelerator", rule=rule))
        if gpus is None:
            rule = "is required: no container of a pod template asks for GPUs"
            self.problems.append(Problem(path=f"{where}.gpus", rule=rule))
        return AcceleratorOption(
            type=accelerator or f"unknown of {where}", gpus=gpus or 1, capacity=workload.capacity
        )

    def _add(self, role: str, workload: ScaledWorkloadSection, accelerator: str) -> None:
        self.workloads.append(
            WorkloadSection(
                service=self.file.metadata.name,
                role=role,
                accelerator=accelerator,
                kind=workload.kind,
                namespace=self.file.metadata.namespace,
                name=workload.name,
                component=workload.component,
            )
        )


def _window_problems(file: ScaledServiceFile, interval_s: float) -> Iterator[Problem]:
    window_s = file.spec.policy.guard.stabilization_window_s
    if window_s and interval_s > gap_limit_s(window_s) / 2:
        rule = f"would never fill with ticks {interval_s:g} s apart: must be longer, or 0"
        path = "spec.policy.guard.stabilization_window_s"
        yield Problem(path=path, rule=rule, value=window_s)
