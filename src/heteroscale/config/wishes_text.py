"""A wishes file's text from services: what differs from the defaults, a service per line."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from heteroscale.entities.service import AcceleratorOption, RolePath, RoleSpec, ServiceSpec


def wishes_text(services: Sequence[ServiceSpec], want: Mapping[str, Mapping[RolePath, int]]) -> str:
    """Return JSON that reads back as these services and wishes.

    Of a policy its proportional targets are written: more decides no placement.
    """
    lines = ",\n".join(json.dumps(_service(spec)) for spec in services)
    wanted = ",\n".join(
        f"{json.dumps(name)}: {json.dumps(dict(want[name]))}" for name in sorted(want)
    )
    return f'{{"services": [\n{lines}\n],\n"want": {{\n{wanted}\n}}}}\n'


def _service(spec: ServiceSpec) -> dict[str, object]:
    slo = spec.slo
    return {
        "name": spec.name,
        "priority": spec.priority,
        "slo": {"ttft_s": slo.ttft_s, "tbt_s": slo.tbt_s, "quantile": slo.quantile},
        "group": {"within": spec.group.within, "roles": _roles(spec.group.roles)},
        "policy": {
            "proportional": [
                {"signal": one.signal.value, "role": one.role, "target": one.target}
                for one in spec.policy.proportional
            ]
        },
    }


def _roles(roles: Sequence[RoleSpec]) -> dict[str, object]:
    return {role.path.rpartition("/")[2]: _role(role) for role in roles}


def _role(role: RoleSpec) -> dict[str, object]:
    written: dict[str, object] = {"share": role.share, "stage": role.stage.value}
    if role.within is not None:
        written["within"] = role.within
    if role.roles:
        written["roles"] = _roles(role.roles)
        return written
    written["accelerators"] = [_accelerator(option) for option in role.accelerators]
    return written


def _accelerator(option: AcceleratorOption) -> dict[str, object]:
    written: dict[str, object] = {
        "type": option.type,
        "gpus": option.gpus,
        "capacity": option.capacity,
    }
    if option.nodes > 1:
        written |= {"nodes": option.nodes, "within": option.within}
    return written
