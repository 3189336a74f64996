"""The rules between the fields of a `ScaledService` in CEL, so that the API server knows them, too.

The same rules stand in `scaled_service.py`, where all faults of what got past are told; defaults
are taken from the entities. What CEL cannot know (time zones, the cluster, other resources) is
only told there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from heteroscale.config.cluster import WITH_COMPONENTS
from heteroscale.config.fields import DNS_LABEL, PATTERNS, Section, default_of
from heteroscale.config.policies import (
    LATENCIES,
    LINEAR_SIGNALS,
    SHARE_SIGNALS,
    FeedbackSection,
    PolicySection,
    ProportionalSection,
    ScheduleSection,
    TrustSection,
)
from heteroscale.config.scaled_service_sections import (
    ScaledLeafSection,
    ScaledRoleSection,
    ScaledServiceFile,
    ScaledServiceSection,
    ScaledWorkloadSection,
)
from heteroscale.entities.policy import FeedbackSpec, OnlineRatioSpec, PolicySpec, TrustSpec
from heteroscale.entities.service import RoleSpec, Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class CelRule:
    """A condition on one section, and the sentence for who breaks it."""

    rule: str
    message: str

    def schema(self) -> dict[str, str]:
        """Return it as it stands in a schema."""
        return {"rule": self.rule, "message": self.message}


def _words(words: object) -> str:
    assert isinstance(words, tuple | frozenset)
    return "[" + ", ".join(f"'{word}'" for word in sorted(words)) + "]"


def _or(field: str, default: object) -> str:
    """Return an expression for a field that may be absent."""
    written = f"'{default}'" if isinstance(default, str) else str(default)
    return f"(has({field}) ? {field} : {written})"


def _leaf(role: str) -> str:
    """Return an expression for whether a text names a role with instances, by path."""
    return (
        "self.roles.exists(r, has(self.roles[r].roles) && size(self.roles[r].roles) > 0"
        f" ? self.roles[r].roles.exists(c, r + '/' + c == {role}) : r == {role})"
    )


def _every_top(mapping: str) -> str:
    """Return an expression for whether a mapping names every top-level role, and nothing else."""
    return f"{mapping}.all(k, k in self.roles) && self.roles.all(r, r in {mapping})"


def _within(leaf: str, count: str) -> str:
    """Return an expression for whether a count lies within a role's bounds."""
    low = _or(f"{leaf}.min_replicas", default_of(RoleSpec, "min_replicas"))
    high = _or(f"{leaf}.max_replicas", default_of(RoleSpec, "max_replicas"))
    return f"{low} <= {count} && {count} <= {high}"


_NAMES = f"matches('{DNS_LABEL}')"
_NAME_RULE = PATTERNS[DNS_LABEL]
_A_LEAF = "a role with instances, by path"
_EVERY_TOP = "must name every top-level role, and nothing else"
_ONLINE = "self.policy.ratio.online"
_IF_ONLINE = f"!has(self.policy.ratio) || !has({_ONLINE}) || "
_PARTS = default_of(OnlineRatioSpec, "parts")
_TIER = default_of(FeedbackSpec, "tiers")[0].ratio

_OF_A_RESOURCE = (
    CelRule(rule=f"self.metadata.name.{_NAMES}", message=f"metadata.name {_NAME_RULE}"),
)
_OF_A_SERVICE = (
    CelRule(rule=f"self.roles.all(r, r.{_NAMES})", message=f"the name of a role {_NAME_RULE}"),
    CelRule(
        rule=f"self.roles.all(r, has(self.roles[r].stage) || r in {_words(tuple(Stage))})",
        message="stage is required of a role whose name is not prefill, decode or encode",
    ),
    CelRule(
        rule=_leaf(_or("self.policy.anchor", default_of(PolicySpec, "anchor"))),
        message=f"policy.anchor (default {default_of(PolicySpec, 'anchor')}) must be {_A_LEAF}",
    ),
    CelRule(
        rule="!has(self.policy.proportional) ||"
        f" self.policy.proportional.all(p, {_leaf('p.role')})",
        message=f"policy.proportional[].role must be {_A_LEAF}",
    ),
    CelRule(
        rule="!has(self.policy.schedules) || self.policy.schedules.all(s, !has(s.replicas) ||"
        f" s.replicas.all(k, {_leaf('k')}))",
        message=f"each key of policy.schedules[].replicas must be {_A_LEAF}",
    ),
    CelRule(
        rule="!has(self.policy.schedules) || self.policy.schedules.all(s, !has(s.ratio) ||"
        f" size(s.ratio) == 0 || {_every_top('s.ratio')})",
        message=f"policy.schedules[].ratio {_EVERY_TOP}",
    ),
    CelRule(
        rule=f"{_IF_ONLINE}{_every_top(f'{_ONLINE}.capacity_tps')}",
        message=f"policy.ratio.online.capacity_tps {_EVERY_TOP}",
    ),
    CelRule(
        rule=f"{_IF_ONLINE}{_or(f'{_ONLINE}.parts', _PARTS)} >= size(self.roles)",
        message="policy.ratio.online.parts must be at least the number of top-level roles",
    ),
    CelRule(
        rule=f"!has(self.pin) || self.pin.all(k, {_leaf('k')})",
        message=f"each key of pin must be {_A_LEAF}",
    ),
    CelRule(
        rule="!has(self.pin) || self.pin.all(k, self.roles.all(r, (r != k ||"
        f" {_within('self.roles[r]', 'self.pin[k]')}) && (!has(self.roles[r].roles) ||"
        " self.roles[r].roles.all(c, r + '/' + c != k ||"
        f" {_within('self.roles[r].roles[c]', 'self.pin[k]')}))))",
        message="pin must lie within the role's bounds",
    ),
)
_OF_A_LEAF = (
    CelRule(
        rule=_or("self.min_replicas", default_of(RoleSpec, "min_replicas"))
        + " <= "
        + _or("self.max_replicas", default_of(RoleSpec, "max_replicas")),
        message=f"min_replicas (default {default_of(RoleSpec, 'min_replicas')}) must be ≤"
        f" max_replicas (default {default_of(RoleSpec, 'max_replicas')})",
    ),
    CelRule(
        rule="!has(self.workloads) || self.workloads.all(w, !has(w.accelerator) ||"
        " self.workloads.exists_one(o, has(o.accelerator) && o.accelerator == w.accelerator))",
        message="workloads of one role must be on different accelerators",
    ),
    CelRule(
        rule="!has(self.workloads) || size(self.workloads) == 0 ||"
        " !has(self.workloads[0].capacity) || self.workloads[0].capacity == 1.0",
        message="capacity must be 1.0 for the first workload, which is what a capacity unit is",
    ),
)
_SOMETHING = "has(self.workloads) && size(self.workloads) > 0"
_NOTHING = "!has(self.workloads) && !has(self.min_replicas) && !has(self.max_replicas)"

#: section → its rules
CEL_RULES: Mapping[type[Section], tuple[CelRule, ...]] = {
    ScaledServiceFile: _OF_A_RESOURCE,
    ScaledServiceSection: _OF_A_SERVICE,
    ScaledRoleSection: (
        CelRule(
            rule=f"has(self.roles) && size(self.roles) > 0 ? {_NOTHING} : {_SOMETHING}",
            message="must have either workloads, with bounds if need be, or roles of its own",
        ),
        CelRule(
            rule=f"!has(self.roles) || self.roles.all(r, r.{_NAMES})",
            message=f"the name of a role {_NAME_RULE}",
        ),
        *_OF_A_LEAF,
    ),
    ScaledLeafSection: (
        CelRule(rule=_SOMETHING, message="must name at least one workload"),
        *_OF_A_LEAF,
    ),
    ScaledWorkloadSection: (
        CelRule(
            rule=f"(self.kind in {_words(WITH_COMPONENTS)}) == has(self.component)",
            message=f"component is written with {', '.join(sorted(WITH_COMPONENTS))},"
            " and only there",
        ),
    ),
    PolicySection: (
        CelRule(
            rule=" || ".join(
                f"(has(self.{key}) && size(self.{key}) > 0)"
                for key in ("proportional", "feedback", "schedules")
            ),
            message="must have at least one of proportional, feedback, schedules",
        ),
    ),
    ProportionalSection: (
        CelRule(
            rule=f"self.signal in {_words(LINEAR_SIGNALS)}",
            message="signal must grow with the load; latencies belong under feedback",
        ),
        CelRule(
            rule=f"!(self.signal in {_words(SHARE_SIGNALS)}) || self.target <= 1.0",
            message=f"target must be ≤ 1 for {', '.join(SHARE_SIGNALS)}, which are shares",
        ),
    ),
    FeedbackSection: (
        CelRule(
            rule=f"self.signal in {_words(LATENCIES)}",
            message="signal must be a latency; other signals belong under proportional",
        ),
        CelRule(
            rule=f"(has(self.tiers) ? self.tiers[0].ratio : {_TIER}) > "
            + _or("self.low", default_of(FeedbackSpec, "low")),
            message="tiers must begin above low",
        ),
        CelRule(
            rule="!has(self.tiers) || (self.tiers.map(t, t.ratio).isSorted() && self.tiers.all(t,"
            " self.tiers.exists_one(o, o.ratio == t.ratio)))",
            message="tiers must ascend",
        ),
    ),
    TrustSection: (
        CelRule(
            rule=_or("self.queue_low", default_of(TrustSpec, "queue_low"))
            + " <= "
            + _or("self.queue_high", default_of(TrustSpec, "queue_high")),
            message=f"queue_low (default {default_of(TrustSpec, 'queue_low'):g}) must be ≤"
            f" queue_high (default {default_of(TrustSpec, 'queue_high'):g})",
        ),
    ),
    ScheduleSection: (
        CelRule(
            rule="(has(self.replicas) && size(self.replicas) > 0)"
            " || (has(self.ratio) && size(self.ratio) > 0)",
            message="must have replicas, ratio or both",
        ),
    ),
}
