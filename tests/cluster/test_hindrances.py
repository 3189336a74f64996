"""What stands in the way of scaling on a real cluster: others, rollouts, full nodes."""

from __future__ import annotations

from heteroscale.adapters.wall_clock import WallClock
from heteroscale.config.cluster_sections import ScalableKind
from heteroscale.entities.action import Outcome, OutcomeKind, Rotation, RotationAction, ScaleAction
from heteroscale.entities.snapshot import InstanceState
from heteroscale.subcluster.in_place import InPlaceSubcluster
from tests.cluster.control_plane import ControlPlane, until
from tests.cluster.test_doctor import autoscaled
from tests.cluster.test_in_place import scale
from tests.cluster.worlds import deployment, fleet_of, in_place, settled, workload

DEPLOYMENT = ScalableKind.DEPLOYMENT
MERGE = {"Content-Type": "application/merge-patch+json"}


def applied(subcluster: InPlaceSubcluster, action: ScaleAction | RotationAction) -> Outcome:
    return subcluster.apply((action,), WallClock().now_s() + 10.0)[0]


def withdrawal(subcluster: InPlaceSubcluster, uid: str, version: str) -> RotationAction:
    return RotationAction(
        id="withdraw",
        service="chat",
        subcluster=subcluster.name,
        uid=uid,
        to=Rotation.WITHDRAWN,
        version=version,
    )


def test_what_another_autoscaler_scales_is_refused_with_its_name_for_the_whole_service(
    plane: ControlPlane,
) -> None:
    sections = [workload("contest", role, DEPLOYMENT, role) for role in ("prefill", "decode")]
    pair = deployment("prefill", 1), deployment("decode", 2)
    with (
        plane.client() as client,
        fleet_of(client, "contest", *pair),
        autoscaled(client, "contest", "hungry", "prefill"),
        in_place(plane, *sections) as subcluster,
    ):
        settled(subcluster, "decode")
        other = "HorizontalPodAutoscaler hungry sets the count of Deployment contest/prefill, too"
        outcome = applied(subcluster, scale(subcluster, 3))
        assert (outcome.kind, outcome.detail) == (OutcomeKind.REFUSED, other)
        assert subcluster.observe().notices == (f"chat: {other}: nothing of it is changed",)
        (group,) = [one for one in subcluster.observe().group_roles if one.role == "decode"]
        assert group.replicas == 2


def test_during_a_rollout_nothing_is_scaled_in_and_scaling_out_goes_on(plane: ControlPlane) -> None:
    decode = workload("rollout", "decode", DEPLOYMENT, "decode")
    path = "/apis/apps/v1/namespaces/rollout/deployments/decode"
    slow = {"metadata": {"annotations": {"heteroscale.test/start": "600s"}}}
    with (
        plane.client() as client,
        fleet_of(client, "rollout", deployment("decode", 2)),
        in_place(plane, decode) as subcluster,
    ):

        def ready() -> bool:
            states = {one.state for one in settled(subcluster, "decode")}
            return states == {InstanceState.READY} and not subcluster.observe().notices

        until(ready, "both are ready")
        client.patch(path, json={"spec": {"template": slow}}, headers=MERGE).raise_for_status()
        until(lambda: bool(subcluster.observe().notices), "the rollout is seen")
        rolling = "Deployment rollout/decode is replacing its pods"
        assert subcluster.observe().notices == (
            f"chat: {rolling}: nothing of it is scaled in meanwhile",
        )
        shrinking = applied(subcluster, scale(subcluster, 1))
        assert (shrinking.kind, shrinking.detail) == (OutcomeKind.REFUSED, rolling)
        old = min(subcluster.observe().instances, key=lambda one: one.since_s)
        leaving = applied(subcluster, withdrawal(subcluster, old.uid, old.version))
        assert (leaving.kind, leaving.detail) == (OutcomeKind.REFUSED, rolling)
        assert applied(subcluster, scale(subcluster, 3)).kind is OutcomeKind.APPLIED


def test_pods_that_find_no_node_are_pending_and_their_cause_is_told(plane: ControlPlane) -> None:
    decode = workload("no-room", "decode", DEPLOYMENT, "decode")
    lost = deployment("decode", 2)
    lost["spec"]["template"]["spec"]["nodeSelector"] = {"there": "is-none"}
    with (
        plane.client() as client,
        fleet_of(client, "no-room", lost),
        in_place(plane, decode) as subcluster,
    ):
        until(lambda: bool(subcluster.observe().notices), "the scheduler has tried")
        until(
            lambda: subcluster.observe().notices[0].startswith("chat: 2 of decode on H20"),
            "it has tried both",
        )
        assert "didn't match Pod's node affinity/selector" in subcluster.observe().notices[0]
        states = {one.state for one in subcluster.observe().instances}
        assert states == {InstanceState.PENDING}
