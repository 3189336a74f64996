"""The performance model a scenario asks for: a roofline, shipped tables, or an own profile."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from heteroscale.config.model_sections import (
    AttentionSection,
    ModelSection,
    ModelShapeSection,
    ProfileOfSection,
)
from heteroscale.config.scenario_sections import ServingSection
from heteroscale.errors import ConfigError, Problem
from heteroscale.performance.model import PerformanceModel
from heteroscale.performance.models import (
    GroupedAttention,
    LatentAttention,
    ModelShape,
    WeightType,
    model_shape,
)
from heteroscale.performance.nvidia_profile import nvidia_profile
from heteroscale.performance.roofline import Efficiency, Roofline
from heteroscale.performance.table import Demand, LatencyTable, TableModel
from heteroscale.performance.table_file import Shape, load_tables, shipped_tables

#: accelerators without a public source: a table model answers for them with the roofline
ESTIMATED = ("H20", "L20", "H800")


def performance_model(
    section: ModelSection, serving: ServingSection | None = None
) -> PerformanceModel:
    """Return how fast engines of a scenario's model are.

    Args:
        serving: the largest batches that measured tables have to hold; None = not checked.

    Raises:
        ConfigError: there is no reference model or table of that name, or the profile has faults.
    """
    own = section.efficiency.model_dump(exclude_none=True)
    efficiency = dataclasses.replace(Efficiency(), **own)
    if section.name is not None:
        return Roofline(shape=model_shape(section.name), efficiency=efficiency)
    if section.shape is not None:
        return Roofline(shape=_shape(section.shape), efficiency=efficiency)
    demand = Demand()
    if serving is not None:
        demand = Demand(
            prefill_tokens=serving.prefill_token_budget, decode_sequences=serving.decode_max_batch
        )
    if section.table is not None:
        path = "model.table"
        return TableModel(
            path=path,
            tables=shipped_tables(section.table, path),
            efficiency=efficiency,
            demand=demand,
            estimate=Roofline(shape=model_shape(section.table), efficiency=efficiency),
            estimated=ESTIMATED,
        )
    if section.profile is not None:
        tables = _own_tables(Path(section.profile), section.profile_of)
        return TableModel(path="model.profile", tables=tables, efficiency=efficiency, demand=demand)
    rule = "must have a name, a shape, a table or a profile"
    raise ConfigError([Problem(path="model", rule=rule)])


def _own_tables(path: Path, told: ProfileOfSection | None) -> Mapping[Shape, LatencyTable]:
    if told is None:
        if path.is_dir() or path.suffix == ".npz":
            rule = "is required with NVIDIA's profiles, which do not say what was measured"
            raise ConfigError([Problem(path="model.profile_of", rule=rule)])
        return load_tables(path)
    return {(told.accelerator, told.gpus): nvidia_profile(path, **told.model_dump())}


def _shape(section: ModelShapeSection) -> ModelShape:
    return ModelShape(
        name="the model",
        parameters_total=section.parameters_total,
        parameters_active=section.parameters_active,
        layers=section.layers,
        hidden=section.hidden,
        vocabulary=section.vocabulary,
        attention=_attention(section.attention),
        weights=WeightType(section.weights.value),
        is_expert_parallel=section.is_expert_parallel,
    )


def _attention(section: AttentionSection) -> GroupedAttention | LatentAttention:
    if section.grouped is not None:
        return GroupedAttention(**section.grouped.model_dump())
    if section.latent is not None:
        return LatentAttention(**section.latent.model_dump())
    rule = "must have exactly one of grouped, latent"
    raise ConfigError([Problem(path="model.shape.attention", rule=rule)])
