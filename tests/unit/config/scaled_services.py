"""Resources that are right, and what can be wrong with one: the same for us and the API server."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any

from heteroscale.config.scaled_service_sections import GROUP, KIND, VERSION

Resource = dict[str, Any]

_DECODE = {"kind": "Deployment", "name": "chat-decode"}
_PREFILL = {"kind": "Deployment", "name": "chat-prefill"}


def resource(**spec: Any) -> Resource:
    """Return a resource of the service `chat`; keys of `spec` take the place of its own."""
    return {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": KIND,
        "metadata": {"name": "chat", "namespace": "serving"},
        "spec": {
            "slo": {"ttft_s": 1, "tbt_s": 0.04, "quantile": 0.9},
            "roles": {
                "prefill": {"share": 9, "workloads": [_PREFILL]},
                "decode": {"share": 7, "workloads": [_DECODE]},
            },
            "policy": {"proportional": [{"signal": "tps", "role": "decode", "target": 3000}]},
            **deepcopy(spec),
        },
    }


def nested() -> dict[str, Any]:
    """Return roles of a mixture of experts, prefill made of two."""
    return {
        "prefill": {
            "share": 1,
            "roles": {
                "attention": {"share": 1, "workloads": [{"kind": "StatefulSet", "name": "a"}]},
                "ffn": {"share": 4, "workloads": [{"kind": "StatefulSet", "name": "f"}]},
            },
        },
        "decode": {"share": 2, "workloads": [_DECODE]},
    }


def _with(path: str, value: Any) -> Callable[[], Resource]:
    """Return how the resource is made in which one value stands at a dotted path."""

    def make() -> Resource:
        made = deepcopy(resource())
        *above, last = path.split(".")
        at: Any = made["spec"]
        for key in above:
            at = at[int(key)] if key.isdigit() else at.setdefault(key, {})
        at[int(last) if last.isdigit() else last] = value
        return made

    return make


_SCHEDULE = {
    "name": "night",
    "timezone": "Europe/Berlin",
    "days": ["mon"],
    "start": "22:00",
    "end": "06:00",
    "replicas": {"decode": 3},
}
_WORKLOADS = "roles.decode.workloads"

#: what is right, by what it shows
GOOD: Mapping[str, Callable[[], Resource]] = {
    "a plain pair": resource,
    "nested roles, referred to by path": lambda: resource(
        roles=nested(),
        policy={
            "anchor": "prefill/ffn",
            "proportional": [{"signal": "kv_usage", "role": "decode", "target": 0.7}],
            "schedules": [{**_SCHEDULE, "ratio": {"prefill": 1, "decode": 3}}],
            "ratio": {"online": {"capacity_tps": {"prefill": 100.0, "decode": 50.0}}},
        },
        pin={"prefill/attention": 2},
    ),
    "two accelerators of one role": _with(
        _WORKLOADS,
        [
            {**_DECODE, "accelerator": "H20", "gpus": 8},
            {"kind": "Deployment", "name": "d2", "accelerator": "H800", "capacity": 1.5},
        ],
    ),
    "a component of an object": _with(
        _WORKLOADS, [{"kind": "ModelServing", "name": "chat", "component": "decode"}]
    ),
    "a role of another name with its stage": lambda: resource(
        roles={
            "big": {"share": 1, "stage": "prefill", "workloads": [_PREFILL]},
            "decode": {"share": 1, "workloads": [_DECODE]},
        }
    ),
    "an approval": _with("approval", {"plan": "3f2a", "until": "2026-09-01T12:00:00Z"}),
    "feedback alone, its tiers written": _with(
        "policy", {"feedback": [{"signal": "ttft_s", "tiers": [{"ratio": 1.5, "step": 0.5}]}]}
    ),
}

#: what is wrong → how it is made, what the API server says, what we say (path: rule)
BAD: Mapping[str, tuple[Callable[[], Resource], str, str]] = {
    "bounds that leave nothing": (
        _with("roles.decode.min_replicas", 2000),
        "min_replicas (default 1) must be ≤ max_replicas (default 1000)",
        "spec.roles.decode.min_replicas: must be ≤ max_replicas (1000), got 2000",
    ),
    "a role of nothing": (
        _with(_WORKLOADS, []),
        "must have either workloads, with bounds if need be, or roles of its own",
        "spec.roles.decode.workloads: must name at least one workload",
    ),
    "bounds of a role with roles": (
        lambda: resource(roles={**nested(), "prefill": {**nested()["prefill"], "min_replicas": 2}}),
        "must have either workloads, with bounds if need be, or roles of its own",
        "spec.roles.prefill.min_replicas: is for roles with instances only",
    ),
    "a name that says no stage": (
        lambda: resource(roles={"big": {"share": 1, "workloads": [_DECODE]}}),
        "stage is required of a role whose name is not prefill, decode or encode",
        "spec.roles.big.stage: is required",
    ),
    "a role's name that is no label": (
        _with("roles.De_code", {"share": 1, "stage": "decode", "workloads": [_DECODE]}),
        "the name of a role must be a DNS label",
        "spec.roles.De_code: must be a DNS label",
    ),
    "an anchor without instances": (
        _with("policy.anchor", "encode"),
        "policy.anchor (default decode) must be a role with instances, by path",
        "spec.policy.anchor: must be a role with instances: prefill, decode, got 'encode'",
    ),
    "a target of a role that is not there": (
        _with("policy.proportional", [{"signal": "tps", "role": "dec", "target": 1}]),
        "policy.proportional[].role must be a role with instances, by path",
        "spec.policy.proportional[0].role: must be a role with instances",
    ),
    "two targets of one role and signal": (
        _with("policy.proportional", 2 * [{"signal": "tps", "role": "decode", "target": 1}]),
        "Duplicate value",
        "spec.policy.proportional[1].signal: already has a target for decode above",
    ),
    "a latency as a proportional signal": (
        _with("policy.proportional", [{"signal": "ttft_s", "role": "decode", "target": 1}]),
        "signal must grow with the load; latencies belong under feedback",
        "spec.policy.proportional[0].signal: must grow with the load",
    ),
    "a share above one": (
        _with("policy.proportional", [{"signal": "kv_usage", "role": "decode", "target": 1.5}]),
        "target must be ≤ 1 for utilization, sm_activity, kv_usage, which are shares",
        "spec.policy.proportional[0].target: must be ≤ 1, because kv_usage is a share",
    ),
    "feedback on what is no latency": (
        _with("policy.feedback", [{"signal": "tps"}]),
        "signal must be a latency; other signals belong under proportional",
        "spec.policy.feedback[0].signal: must be a latency",
    ),
    "tiers that fall": (
        _with(
            "policy.feedback",
            [
                {
                    "signal": "ttft_s",
                    "tiers": [{"ratio": 1.2, "step": 0.1}, {"ratio": 1.1, "step": 0.1}],
                }
            ],
        ),
        "tiers must ascend",
        "spec.policy.feedback[0].tiers[1].ratio: must be > 1.2, the tier before",
    ),
    "low above the first tier": (
        _with("policy.feedback", [{"signal": "ttft_s", "low": 1.1}]),
        "tiers must begin above low",
        "spec.policy.feedback[0].low: must be < 1.1, the first tier",
    ),
    "no way to size it": (
        _with("policy", {"guard": {"step_out": 0.2}}),
        "must have at least one of proportional, feedback, schedules",
        "spec.policy: must have at least one of proportional, feedback, schedules",
    ),
    "queue limits that cross": (
        _with("policy.trust", {"queue_low": 5.0}),
        "queue_low (default 2) must be ≤ queue_high (default 4)",
        "spec.policy.trust.queue_low: must be ≤ queue_high (4), got 5",
    ),
    "a schedule of nothing": (
        _with("policy.schedules", [{**_SCHEDULE, "replicas": {}}]),
        "must have replicas, ratio or both",
        "spec.policy.schedules[0]: must have replicas, ratio or both",
    ),
    "a schedule for a role that is not there": (
        _with("policy.schedules", [{**_SCHEDULE, "replicas": {"d": 1}}]),
        "each key of policy.schedules[].replicas must be a role with instances, by path",
        "spec.policy.schedules[0].replicas.d: must be a role with instances",
    ),
    "a schedule's ratio without a role": (
        _with("policy.schedules", [{**_SCHEDULE, "ratio": {"decode": 1}}]),
        "policy.schedules[].ratio must name every top-level role, and nothing else",
        "spec.policy.schedules[0].ratio.prefill: is required",
    ),
    "a day named twice": (
        _with("policy.schedules", [{**_SCHEDULE, "days": ["mon", "mon"]}]),
        "Duplicate value",
        "spec.policy.schedules[0].days[1]: must be unique, got 'mon'",
    ),
    "a time of day that is none": (
        _with("policy.schedules", [{**_SCHEDULE, "start": "24:00"}]),
        "should match",
        "spec.policy.schedules[0].start: must be a time of day from 00:00 to 23:59",
    ),
    "an online ratio without a role": (
        _with("policy.ratio", {"online": {"capacity_tps": {"decode": 1.0}}}),
        "policy.ratio.online.capacity_tps must name every top-level role, and nothing else",
        "spec.policy.ratio.online.capacity_tps.prefill: is required",
    ),
    "a pin outside of its bounds": (
        _with("pin", {"decode": 1001}),
        "pin must lie within the role's bounds",
        "spec.pin.decode: must be within the role's bounds, 1 to 1000, got 1001",
    ),
    "a pin of a role that is not there": (
        _with("pin", {"encode": 1}),
        "each key of pin must be a role with instances, by path",
        "spec.pin.encode: must be a role with instances",
    ),
    "two workloads on one accelerator": (
        _with(_WORKLOADS, 2 * [{**_DECODE, "accelerator": "H20"}]),
        "workloads of one role must be on different accelerators",
        "spec.roles.decode.workloads[1].accelerator: must be unique, got 'H20'",
    ),
    "a first workload of two units": (
        _with(_WORKLOADS, [{**_DECODE, "capacity": 2}]),
        "capacity must be 1.0 for the first workload, which is what a capacity unit is",
        "spec.roles.decode.workloads[0].capacity: must be 1.0 for the first workload",
    ),
    "a component of a Deployment": (
        _with(_WORKLOADS, [{**_DECODE, "component": "decode"}]),
        "component is written with DynamoGraphDeployment, ModelServing, StormService, and only",
        "spec.roles.decode.workloads[0].component: must not be written with kind Deployment",
    ),
    "no target at all": (
        _with("policy.proportional", [{"signal": "tps", "role": "decode", "target": 0}]),
        "should be greater than 0",
        "spec.policy.proportional[0].target: must be > 0, got 0",
    ),
    "a count that is no count": (
        _with("roles.decode.share", "7"),
        "must be of type integer",
        "spec.roles.decode.share: must be a whole number, got '7'",
    ),
    "an approval without an end": (
        _with("approval", {"plan": "3f2a"}),
        "spec.approval.until: Required value",
        "spec.approval.until: is required",
    ),
    "an approval that ends never": (
        _with("approval", {"plan": "3f2a", "until": "never"}),
        "must be of type date-time",
        "spec.approval.until: must be a time such as 2026-09-01T12:00:00Z, got 'never'",
    ),
}
