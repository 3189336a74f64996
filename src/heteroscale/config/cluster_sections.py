"""The cluster file: which workloads of one Kubernetes cluster are a service's roles."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from heteroscale.config.fields import DNS_LABEL, Name, Section, Text, need, optional


class ScalableKind(StrEnum):
    """Kinds of objects whose counts are written, as Kubernetes spells them."""

    DEPLOYMENT = "Deployment"
    STATEFUL_SET = "StatefulSet"
    LEADER_WORKER_SET = "LeaderWorkerSet"
    DISAGGREGATED_SET_ROLE_SCALER = "DisaggregatedSetRoleScaler"
    ROLE_BASED_GROUP_SCALING_ADAPTER = "RoleBasedGroupScalingAdapter"
    DYNAMO_GRAPH_DEPLOYMENT_SCALING_ADAPTER = "DynamoGraphDeploymentScalingAdapter"
    POD_CLIQUE_SCALING_GROUP = "PodCliqueScalingGroup"
    MODEL_SERVING = "ModelServing"
    STORM_SERVICE = "StormService"
    DYNAMO_GRAPH_DEPLOYMENT = "DynamoGraphDeployment"


class WorkloadSection(Section):
    """One object that holds the count of one role on one accelerator."""

    service: Name = need("a service of the services file")
    role: Text = need("a leaf role of it, by path")
    accelerator: Text = need("accelerator type of its instances, as the role names it")
    kind: Annotated[ScalableKind, Field(strict=False)] = need("kind of the object")
    namespace: Name = optional("default", "namespace of the object")
    name: Text = need("name of the object")
    component: Text | None = optional(
        None, "name of the role inside the object, for kinds that hold several"
    )


class RoutingLabelSection(Section):
    """A label that the router's selector has and the workload's own selector has not."""

    key: Text = need("taken off a pod that leaves rotation, put back when it returns")
    value: Text = need("its value while the pod is in rotation")


class ClusterNodesSection(Section):
    """How nodes say what they are."""

    switches: Text = optional("topograph", "label family that names the switches above a node")
    resource: Text = optional("nvidia.com/gpu", "extended resource that GPUs are counted by")
    product_label: Text = optional("nvidia.com/gpu.product", "label that names the accelerator")
    accelerators: Mapping[str, Text] = optional(
        {}, "value of the product label → accelerator type; values not listed are types themselves"
    )


class LeaseSection(Section):
    """The Lease that says which of several controllers acts."""

    namespace: Name | None = optional(
        None, "namespace of the Lease; null = that of the pod, or of the kubeconfig's context"
    )
    name: Name = optional("heteroscale", "one for all controllers of the same services")
    duration_s: Annotated[int, Field(ge=3, le=300)] = optional(
        15, "how long others wait after the last renewal they saw before they take over"
    )


class ClusterFile(Section):
    """One Kubernetes cluster and what is scaled in it."""

    name: Annotated[str, Field(pattern=DNS_LABEL)] = optional("main", "name of the sub-cluster")
    workloads: tuple[WorkloadSection, ...] = optional(
        (), "objects that are scaled in place; one per role and accelerator"
    )
    namespaces: tuple[Name, ...] = optional(
        (), "namespaces whose ScaledServices are looked after, too; each at most once"
    )
    routing_label: RoutingLabelSection | None = optional(
        None,
        "how pods leave rotation and come back; null = they cannot, and what is scaled in drains",
    )
    nodes: ClusterNodesSection = optional(ClusterNodesSection(), "how nodes say what they are")
    lease: LeaseSection = optional(LeaseSection(), "which of several controllers acts")
