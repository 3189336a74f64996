"""Rules between the fields of a service's policy, and its references to roles."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from heteroscale.config.fields import default_of
from heteroscale.config.policies import SHARE_SIGNALS
from heteroscale.config.view import Fault, View
from heteroscale.entities.policy import FeedbackSpec, OnlineRatioSpec, PolicySpec, TrustSpec

#: what can tell how many instances are wanted
_SOURCES = ("proportional", "feedback", "schedules")


def policy_rules(policy: View, leaves: tuple[str, ...], top: tuple[str, ...]) -> Iterator[Fault]:
    """Yield what is wrong with a policy beside a service's leaf and top-level roles."""
    if not isinstance(policy.value, dict):
        return
    if not any(policy.at(key).value for key in _SOURCES):
        rule = f"must have at least one of {', '.join(_SOURCES)}"
        yield Fault(view=policy, rule=rule, shown=False)
    yield from _anchor_rules(policy.at("anchor"), leaves)
    yield from _proportional_rules(policy.at("proportional"), leaves)
    for feedback in policy.at("feedback").items():
        yield from _tier_rules(feedback)
    yield from repeated(feedback.at("signal") for feedback in policy.at("feedback").items())
    for schedule in policy.at("schedules").items():
        yield from _schedule_rules(schedule, leaves, top)
    yield from repeated(schedule.at("name") for schedule in policy.at("schedules").items())
    yield from _trust_rules(policy.at("trust"))
    yield from _online_rules(policy.at("ratio", "online"), top)


def leaf_rule(leaves: tuple[str, ...]) -> str:
    """Return the rule for a key or value that must name a role with instances."""
    return f"must be a role with instances: {', '.join(leaves)}"


def repeated(views: Iterable[View]) -> Iterator[Fault]:
    """Yield a fault for each text that stood in the sequence before."""
    seen: set[str] = set()
    for view in views:
        text = view.text()
        if text is not None and text in seen:
            yield Fault(view=view, rule="must be unique")
        elif text is not None:
            seen.add(text)


def _anchor_rules(anchor: View, leaves: tuple[str, ...]) -> Iterator[Fault]:
    role = anchor.text(default_of(PolicySpec, "anchor"))
    if role is None or role in leaves:
        return
    if anchor.written:
        yield Fault(view=anchor, rule=leaf_rule(leaves))
    else:
        rule = f"is required: there is no role {role!r} to stand in; {leaf_rule(leaves)}"
        yield Fault(view=anchor, rule=rule, shown=False)


def _proportional_rules(sections: View, leaves: tuple[str, ...]) -> Iterator[Fault]:
    seen: set[tuple[str, str]] = set()
    for section in sections.items():
        signal, role = section.at("signal").text(), section.at("role").text()
        if role is not None and role not in leaves:
            yield Fault(view=section.at("role"), rule=leaf_rule(leaves))
        elif signal is not None and role is not None:
            if (signal, role) in seen:
                rule = f"already has a target for {role} above"
                yield Fault(view=section.at("signal"), rule=rule)
            seen.add((signal, role))
        target = section.at("target").number()
        if signal in SHARE_SIGNALS and target is not None and target > 1:
            rule = f"must be ≤ 1, because {signal} is a share"
            yield Fault(view=section.at("target"), rule=rule)


def _tier_rules(feedback: View) -> Iterator[Fault]:
    low = feedback.at("low").number(default_of(FeedbackSpec, "low"))
    below, name = low, "low"
    tiers = feedback.at("tiers")
    if not tiers.written:
        first = default_of(FeedbackSpec, "tiers")[0].ratio
        if low is not None and low >= first:
            rule = f"must be < {first:g}, the first tier"
            yield Fault(view=feedback.at("low"), rule=rule)
        return
    for tier in tiers.items():
        ratio = tier.at("ratio").number()
        if ratio is not None and below is not None and ratio <= below:
            yield Fault(view=tier.at("ratio"), rule=f"must be > {below:g}, {name}")
        below, name = ratio, "the tier before"


def _schedule_rules(
    schedule: View, leaves: tuple[str, ...], top: tuple[str, ...]
) -> Iterator[Fault]:
    if not isinstance(schedule.value, dict):
        return
    replicas, ratio = schedule.at("replicas"), schedule.at("ratio")
    if not replicas.value and not ratio.value and replicas.sound and ratio.sound:
        yield Fault(view=schedule, rule="must have replicas, ratio or both", shown=False)
    yield from repeated(schedule.at("days").items())
    for role, count in replicas.entries():
        if role not in leaves:
            yield Fault(view=count, rule=leaf_rule(leaves), shown=False)
    if ratio.value:
        yield from _every_role(ratio, top)


def _every_role(mapping: View, top: tuple[str, ...]) -> Iterator[Fault]:
    """Yield a fault for each top-level role that is missing, and each key that is not one."""
    names = tuple(name for name, _ in mapping.entries())
    for role in top:
        if isinstance(mapping.value, dict) and role not in names:
            rule = "is required: every top-level role must be named"
            yield Fault(view=mapping.at(role), rule=rule, shown=False)
    for name, view in mapping.entries():
        if name not in top:
            rule = f"must be a top-level role: {', '.join(top)}"
            yield Fault(view=view, rule=rule, shown=False)


def _trust_rules(trust: View) -> Iterator[Fault]:
    low = trust.at("queue_low").number(default_of(TrustSpec, "queue_low"))
    high = trust.at("queue_high").number(default_of(TrustSpec, "queue_high"))
    if low is not None and high is not None and low > high:
        key = "queue_low" if trust.at("queue_low").written else "queue_high"
        limit = f"≤ queue_high ({high:g})" if key == "queue_low" else f"≥ queue_low ({low:g})"
        yield Fault(view=trust.at(key), rule=f"must be {limit}")


def _online_rules(online: View, top: tuple[str, ...]) -> Iterator[Fault]:
    if not isinstance(online.value, dict):
        return
    yield from _every_role(online.at("capacity_tps"), top)
    parts = online.at("parts").number(default_of(OnlineRatioSpec, "parts"))
    if parts is not None and parts < len(top):
        rule = f"must be ≥ {len(top)}, one part for each top-level role"
        yield Fault(view=online.at("parts"), rule=rule)
