"""The services file: the fleet's own settings and every service with its roles."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field

from heteroscale.config.fields import (
    Count,
    Name,
    NonNegative,
    Part,
    Positive,
    Section,
    Share,
    Text,
    default_of,
    given,
    need,
    optional,
)
from heteroscale.config.policies import LifecycleSection, PolicySection
from heteroscale.entities.service import (
    AcceleratorOption,
    BrakeSpec,
    DefragmentSpec,
    FleetSpec,
    GroupSpec,
    Mode,
    Pause,
    RoleSpec,
    ServiceSpec,
    Slo,
    Stage,
)
from heteroscale.errors import InvariantViolation


class SloSection(Section):
    """Service-level objective: the quantile of each latency stays at or below its limit."""

    ttft_s: Annotated[float, Field(gt=0, le=86_400)] = need("time to first token")
    tbt_s: Annotated[float, Field(gt=0, le=86_400)] = need("time between tokens")
    quantile: Annotated[float, Field(gt=0, lt=1)] = need("e.g. 0.9 for the 90th percentile")

    def entity(self) -> Slo:
        """Return the frozen entity."""
        return Slo(ttft_s=self.ttft_s, tbt_s=self.tbt_s, quantile=self.quantile)


class AcceleratorSection(Section):
    """One way to build an instance of a role; listed preferred first."""

    type: Text = need("accelerator type, e.g. H20; each at most once per role")
    gpus: Count = need("GPUs per node of one instance")
    capacity: Positive = given(
        AcceleratorOption, "capacity", "capacity units of one instance; 1.0 for the first listed"
    )
    nodes: Count = given(AcceleratorOption, "nodes", "nodes one instance spans")
    within: Text | None = given(
        AcceleratorOption,
        "within",
        "topology level these nodes share; needed with several nodes, and only then",
    )

    def entity(self) -> AcceleratorOption:
        """Return the frozen entity."""
        return AcceleratorOption(**self.model_dump())


class RoleSection(Section):
    """A part of a service. Either it has accelerators (a leaf) or roles of its own."""

    share: Count = need("parts of this role in one unit of its parent; the ratio is role → share")
    stage: Annotated[Stage, Field(strict=False)] | None = optional(
        None, "prefill, decode or encode; null = the role's own name says it, or its parent's stage"
    )
    accelerators: tuple[AcceleratorSection, ...] = given(
        RoleSpec, "accelerators", "leaf roles only: ways to build an instance, preferred first"
    )
    min_replicas: Count = given(RoleSpec, "min_replicas", "leaf roles only: fewest capacity units")
    max_replicas: Count = given(RoleSpec, "max_replicas", "leaf roles only: most capacity units")
    within: Text | None = given(
        RoleSpec,
        "within",
        "level this role's instances share; not wider than around it; null = that",
    )
    roles: Mapping[Name, RoleSection] = optional(
        {}, "nested roles (MoE): one unit of this role is its children's shares together"
    )

    def entity(self, path: str, parent: Stage | None) -> RoleSpec:
        """Return the frozen entity of the role at `path` below a role of stage `parent`."""
        stage = stage_of(path, self.stage, parent)
        if stage is None:
            raise InvariantViolation(f"the rules let the role {path} pass without a stage")
        return RoleSpec(
            path=path,
            stage=stage,
            share=self.share,
            accelerators=tuple(section.entity() for section in self.accelerators),
            min_replicas=self.min_replicas,
            max_replicas=self.max_replicas,
            within=self.within,
            roles=tuple(role.entity(f"{path}/{name}", stage) for name, role in self.roles.items()),
        )


def stage_of(path: str, written: str | None, parent: Stage | None) -> Stage | None:
    """Return a role's stage: as written, else what its name says, else its parent's."""
    for name in (written, path.rpartition("/")[2]):
        if name in tuple(Stage):
            return Stage(name)
    return parent


class GroupSection(Section):
    """Shape of a deployment group."""

    within: Text | None = given(
        GroupSpec, "within", "topology level all roles of one group share; null = a sub-cluster"
    )
    allowance: Annotated[int, Field(ge=0, le=16)] = given(
        GroupSpec,
        "allowance",
        "levels by which a new group may be wider than `within` where it fits nowhere; 0 = never",
    )
    roles: Annotated[Mapping[Name, RoleSection], Field(min_length=1)] = need(
        "name → role; usually prefill and decode"
    )

    def entity(self) -> GroupSpec:
        """Return the frozen entity."""
        roles = tuple(role.entity(name, None) for name, role in self.roles.items())
        return GroupSpec(within=self.within, allowance=self.allowance, roles=roles)


class PauseSection(Section):
    """Directions an operator has stopped."""

    scale_out: bool = given(Pause, "scale_out", "no more instances")
    scale_in: bool = given(Pause, "scale_in", "no fewer instances")

    def entity(self) -> Pause:
        """Return the frozen entity."""
        return Pause(scale_out=self.scale_out, scale_in=self.scale_in)


class ServiceSection(Section):
    """One model deployment, scaled as a unit."""

    name: Name = need("unique in the file")
    priority: Annotated[int, Field(ge=0, le=100)] = need("the higher is served first")
    slo: SloSection = need("service-level objective")
    group: GroupSection = need("roles and the network domain they share")
    policy: PolicySection = need("how it is sized")
    lifecycle: LifecycleSection = optional(LifecycleSection(), "how instances enter and leave")
    mode: Annotated[Mode, Field(strict=False)] = given(
        ServiceSpec,
        "mode",
        "observe = publish only, recommend = wait for approval of each plan, enforce = act",
    )
    pause: PauseSection = optional(PauseSection(), "directions that are stopped")
    pin: Mapping[str, Count] = given(
        ServiceSpec, "pin", "leaf role → capacity units held fixed, within the role's bounds"
    )
    quota: Mapping[Text, Count] = given(
        ServiceSpec, "quota", "accelerator → GPUs the service may hold; absent = any number"
    )
    preemptible: bool = given(
        ServiceSpec,
        "preemptible",
        "shrinks to what is essential to it where a higher priority lacks what is essential",
    )
    essential: Mapping[str, Count] = given(
        ServiceSpec,
        "essential",
        "leaf role → capacity units that lower priorities give way for; absent = min_replicas",
    )

    def entity(self) -> ServiceSpec:
        """Return the frozen entity."""
        return ServiceSpec(
            name=self.name,
            priority=self.priority,
            slo=self.slo.entity(),
            group=self.group.entity(),
            policy=self.policy.entity(),
            lifecycle=self.lifecycle.entity(),
            mode=self.mode,
            pause=self.pause.entity(),
            pin=self.pin,
            quota=self.quota,
            preemptible=self.preemptible,
            essential=self.essential,
        )


class BrakeSection(Section):
    """Fleet brake: what many services ask at once is more likely a fault than the truth."""

    share: Share = given(BrakeSpec, "share", "scale-in holds when more services than this ask ...")
    services: Count = given(BrakeSpec, "services", "... and at least this many do")
    gpus_per_hour_share: Part = given(
        BrakeSpec,
        "gpus_per_hour_share",
        "most of the fleet's GPUs that may leave in an hour; one capacity unit always may",
    )

    def entity(self) -> BrakeSpec:
        """Return the frozen entity."""
        return BrakeSpec(**self.model_dump())


class DefragmentSection(Section):
    """Lets groups leave scarce subgroups to others, each once a new one has taken its place."""

    groups: Annotated[int, Field(ge=0)] = given(
        DefragmentSpec, "groups", "most groups on their way at once; 0 = none ever"
    )
    gpus: Count = given(DefragmentSpec, "gpus", "most GPUs that are held twice at once for it")
    rest_s: NonNegative = given(
        DefragmentSpec, "rest_s", "after one of its groups a service rests so long"
    )

    def entity(self) -> DefragmentSpec:
        """Return the frozen entity."""
        return DefragmentSpec(**self.model_dump())


class FleetSection(Section):
    """Settings of the controller and limits of the whole fleet."""

    interval_s: Annotated[float, Field(ge=0.1, le=86_400)] = given(
        FleetSpec, "interval_s", "time between ticks"
    )
    freeze: bool = given(FleetSpec, "freeze", "stop every change, restores excepted")
    brake: BrakeSection = optional(BrakeSection(), "limits on scale-in of many services at once")
    defragment: DefragmentSection = optional(
        DefragmentSection(), "whether groups leave scarce subgroups to others"
    )
    stale_s: Positive = given(
        FleetSpec, "stale_s", "an older observation of a sub-cluster is unknown"
    )
    levels: Annotated[tuple[Text, ...], Field(min_length=1)] = given(
        FleetSpec, "levels", "topology levels, narrowest first; each name once"
    )
    prices: Mapping[Text, Positive] = given(
        FleetSpec,
        "prices",
        "accelerator → price of a GPU for an hour, any currency; the cheaper of equals is taken",
    )

    def entity(self, services: tuple[ServiceSection, ...]) -> FleetSpec:
        """Return the frozen entity of these services under these limits."""
        return FleetSpec(
            services=tuple(service.entity() for service in services),
            interval_s=self.interval_s,
            freeze=self.freeze,
            brake=self.brake.entity(),
            defragment=self.defragment.entity(),
            stale_s=self.stale_s,
            levels=self.levels,
            prices=self.prices,
        )


class ServicesFile(Section):
    """The whole services file."""

    fleet: FleetSection = optional(FleetSection(), "settings of the controller")
    services: tuple[ServiceSection, ...] = need(
        "every service; empty where all of them are ScaledServices"
    )

    def entity(self) -> FleetSpec:
        """Return the frozen entity."""
        return self.fleet.entity(self.services)


DEFAULT_LEVELS: tuple[str, ...] = default_of(FleetSpec, "levels")
