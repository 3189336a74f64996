"""The performance model a scenario asks for: a reference model or a shape of its own."""

from __future__ import annotations

import dataclasses

from heteroscale.config.model_sections import (
    AttentionSection,
    ModelSection,
    ModelShapeSection,
)
from heteroscale.errors import ConfigError, Problem
from heteroscale.performance.model import PerformanceModel
from heteroscale.performance.models import (
    GroupedAttention,
    LatentAttention,
    ModelShape,
    WeightType,
    model_shape,
)
from heteroscale.performance.roofline import Efficiency, Roofline


def performance_model(section: ModelSection) -> PerformanceModel:
    """Return how fast engines of a scenario's model are.

    Raises:
        ConfigError: there is no reference model of that name.
    """
    if section.name is not None:
        shape = model_shape(section.name)
    elif section.shape is not None:
        shape = _shape(section.shape)
    else:
        raise ConfigError([Problem(path="model", rule="must have a name or a shape")])
    own = section.efficiency.model_dump(exclude_none=True)
    return Roofline(shape=shape, efficiency=dataclasses.replace(Efficiency(), **own))


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
