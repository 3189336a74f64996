"""The inventory file: nodes, where they stand, and who uses them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field

from heteroscale.config.fields import Count, Name, Positive, Section, Text, need, optional
from heteroscale.config.label_presets import COUNT_LABEL, PRODUCT_LABEL
from heteroscale.entities.snapshot import InstanceState


class RunSection(Section):
    """What one instance of a service holds on a node."""

    service: Name = need("service it belongs to")
    group: Name = need("deployment group")
    role: Text = need("leaf role by path, e.g. prefill/ffn")
    gpus: Count = need("GPUs it holds on this node")
    instance: Text | None = optional(
        None, "id, the same on each node of an instance of several; null = one on this node alone"
    )
    state: Annotated[InstanceState, Field(strict=False)] = optional(
        InstanceState.READY, "where it stands"
    )


class NodeSection(Section):
    """One machine."""

    name: Text = need("unique in its sub-cluster")
    subcluster: Name | None = optional(None, "null = the file's")
    accelerator: str | None = optional(None, f"GPU type; null = label {PRODUCT_LABEL}")
    gpus: int | None = optional(None, f"GPUs, 1 to 1,024; null = label {COUNT_LABEL}")
    healthy: bool = optional(True, "false = takes nothing new")
    labels: Mapping[str, str] = optional({}, "as on the node; those of `levels` say where it is")
    used_gpus: Annotated[int, Field(ge=0)] | None = optional(
        None, "GPUs held by anything that `runs` does not list; null = none, if use is known at all"
    )
    runs: tuple[RunSection, ...] = optional((), "instances of services")


class AcceleratorTypeSection(Section):
    """A GPU type that nodes may have."""

    names: tuple[Text, ...] = optional((), "what else nodes call it, e.g. NVIDIA-H20")
    price_per_gpu_hour: Positive | None = optional(None, "in any one currency; null = unknown")


class InventoryFile(Section):
    """The whole inventory file."""

    subcluster: Name = optional("main", "sub-cluster of nodes that name none")
    preset: Text | None = optional(
        None, "family of labels that say where a node is; null = the keys of `levels`, or levels"
    )
    levels: Annotated[Mapping[Text, Text], Field(min_length=1)] | None = optional(
        None, "topology level → label key, narrowest first; in place of a preset"
    )
    unique_names: bool | None = optional(
        None,
        "whether a switch's name is one switch of its level in the whole sub-cluster, or one under"
        " each parent; null = as in the preset, true without one",
    )
    accelerators: Mapping[Text, AcceleratorTypeSection] = optional(
        {}, "every GPU type there is; empty = any name is a type"
    )
    nodes: Annotated[tuple[NodeSection, ...], Field(min_length=1)] = need("every node")
