"""Builders of entities for tests: everything has a sensible default, every call names what matters.

The default service is the one of the examples: prefill and decode, one H20 instance a unit,
decode the anchor with 1,000 tokens/s a unit, TTFT within 1 s and TBT within 40 ms.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from heteroscale.entities.policy import LifecycleSpec, PolicySpec, ProportionalSpec
from heteroscale.entities.service import (
    AcceleratorOption,
    GroupSpec,
    Mode,
    Pause,
    RoleSpec,
    ServiceSpec,
    Slo,
    Stage,
)
from heteroscale.entities.snapshot import (
    GroupRole,
    Instance,
    InstanceState,
    Reading,
    ServiceSnapshot,
    Signal,
    UnknownCause,
)
from heteroscale.entities.state import ServiceState

H20 = AcceleratorOption(type="H20", gpus=8)
#: tokens/s of decode per unit that the default service aims at
TARGET_TPS = 1000.0
#: 14 November 2023, 22:13:20 UTC, a Tuesday
NOW_S = 1_700_000_000.0


def build_role(
    path: str = "decode",
    *,
    share: int = 1,
    stage: Stage | None = None,
    accelerators: Sequence[AcceleratorOption] = (H20,),
    roles: Sequence[RoleSpec] = (),
    min_replicas: int = 1,
    max_replicas: int = 1000,
    within: str | None = None,
) -> RoleSpec:
    """Build a role; its stage follows from its name, and a nested one has no accelerators."""
    named = Stage.PREFILL if path.startswith("prefill") else Stage.DECODE
    return RoleSpec(
        path=path,
        stage=stage or named,
        share=share,
        accelerators=() if roles else tuple(accelerators),
        min_replicas=min_replicas,
        max_replicas=max_replicas,
        within=within,
        roles=tuple(roles),
    )


def build_group(prefill: int = 1, decode: int = 1, *, within: str | None = None) -> GroupSpec:
    """Build a group of two plain roles with these shares."""
    roles = (build_role("prefill", share=prefill), build_role("decode", share=decode))
    return GroupSpec(within=within, roles=roles)


#: Sizes decode by the throughput it serves.
BY_DECODE_TPS = ProportionalSpec(signal=Signal.TPS, role="decode", target=TARGET_TPS)


def build_service(
    name: str = "chat",
    *,
    roles: Sequence[RoleSpec] | None = None,
    prefill: int = 1,
    decode: int = 1,
    priority: int = 50,
    mode: Mode = Mode.ENFORCE,
    pause: Pause = Pause(),
    pin: Mapping[str, int] | None = None,
    lifecycle: LifecycleSpec = LifecycleSpec(),
    **policy: Any,
) -> ServiceSpec:
    """Build a service; further arguments are fields of its `PolicySpec`.

    Without any strategy among them it is sized by decode TPS.
    """
    if not policy.keys() & {"proportional", "feedback", "schedules"}:
        policy["proportional"] = (BY_DECODE_TPS,)
    group = build_group(prefill, decode)
    if roles is not None:
        group = replace(group, roles=tuple(roles))
    return ServiceSpec(
        name=name,
        priority=priority,
        slo=Slo(ttft_s=1.0, tbt_s=0.04, quantile=0.9),
        group=group,
        policy=PolicySpec(**policy),
        lifecycle=lifecycle,
        mode=mode,
        pause=pause,
        pin=pin or {},
    )


def build_instances(
    role: str,
    replicas: int,
    state: InstanceState = InstanceState.READY,
    *,
    service: str = "chat",
    group: str = "chat-a",
    accelerator: str = "H20",
    first: int = 0,
) -> tuple[Instance, ...]:
    """Build instances of one role in one state; ordinals count from `first`."""
    return tuple(
        Instance(
            uid=f"{group}/{role}/{accelerator}/{ordinal}",
            service=service,
            role=role,
            group=group,
            subcluster="east",
            accelerator=accelerator,
            ordinal=ordinal,
            state=state,
            since_s=NOW_S - 3600.0,
            requests=0,
            version="1",
        )
        for ordinal in range(first, first + replicas)
    )


def build_readings(
    load_tps: float | None = None,
    *,
    ttft_s: float | None = 0.5,
    tbt_s: float | None = 0.02,
    queue: float | None = 0.0,
    prefill_tps: float | None = None,
    offered_tps: float | None = None,
) -> tuple[Reading, ...]:
    """Build the readings of a calm service; None = the signal is missing."""
    values = (
        (Signal.TPS, "decode", load_tps),
        (Signal.TPS, "prefill", prefill_tps),
        (Signal.OFFERED_TPS, "decode", offered_tps),
        (Signal.TTFT, "prefill", ttft_s),
        (Signal.TBT, "decode", tbt_s),
        (Signal.QUEUE_LENGTH, "prefill", queue),
        (Signal.QUEUE_LENGTH, "decode", queue),
    )
    return tuple(
        Reading(signal=signal, role=role, value=value)
        for signal, role, value in values
        if value is not None
    )


def unknown(reading: Reading, cause: UnknownCause = UnknownCause.STALE) -> Reading:
    """Return the reading without its value."""
    return replace(reading, value=None, cause=cause)


def build_snapshot(
    load_tps: float | None = None,
    *,
    prefill: int = 0,
    decode: int = 0,
    instances: Sequence[Instance] | None = None,
    readings: Sequence[Reading] | None = None,
    group_roles: Sequence[GroupRole] | None = None,
    **signals: Any,
) -> ServiceSnapshot:
    """Build what was observed: ready instances by role, and calm readings unless given.

    Further arguments go to `build_readings`; group roles count the instances unless given.
    """
    if instances is None:
        instances = (*build_instances("decode", decode), *build_instances("prefill", prefill))
    if group_roles is None:
        group_roles = count_group_roles(instances)
    return ServiceSnapshot(
        readings=tuple(build_readings(load_tps, **signals) if readings is None else readings),
        instances=tuple(instances),
        group_roles=tuple(group_roles),
    )


def count_group_roles(instances: Sequence[Instance]) -> tuple[GroupRole, ...]:
    """Return the group roles whose counts are exactly these instances."""
    counts: dict[tuple[str, str, str, str], int] = {}
    for one in instances:
        key = (one.role, one.group, one.accelerator, one.service)
        counts[key] = counts.get(key, 0) + 1
    return tuple(
        GroupRole(
            service=service,
            group=group,
            role=role,
            accelerator=accelerator,
            subcluster="east",
            domain=(),
            replicas=replicas,
            version="1",
        )
        for (role, group, accelerator, service), replicas in sorted(counts.items())
    )


def build_state(*, fed_s: float = 3600.0, now_s: float = NOW_S, **fields: Any) -> ServiceState:
    """Build memory whose window has been fed without a gap for `fed_s`, and holds nothing."""
    return ServiceState(
        window_since_s=fields.pop("window_since_s", now_s - fed_s),
        window_fed_s=fields.pop("window_fed_s", now_s - 15.0),
        **fields,
    )
