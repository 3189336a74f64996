"""Which roles of a service do prefill and which decode, and what makes one unit of either."""

from __future__ import annotations

from collections.abc import Mapping

from heteroscale.entities.service import RolePath, RoleSpec, ServiceSpec, Stage


def stage_roles(service: ServiceSpec) -> tuple[RolePath, RolePath]:
    """Return the top-level prefill and decode role."""
    prefill, decode = _by_stage(service)
    return prefill.path, decode.path


def unit_shares(service: ServiceSpec) -> tuple[Mapping[RolePath, int], Mapping[RolePath, int]]:
    """Return of prefill and of decode: leaf role → capacity units in one unit of the stage.

    A role without roles inside is one unit of itself.
    """
    prefill, decode = _by_stage(service)
    return _shares(prefill), _shares(decode)


def _by_stage(service: ServiceSpec) -> tuple[RoleSpec, RoleSpec]:
    by_stage = {role.stage: role for role in service.group.roles}
    return by_stage[Stage.PREFILL], by_stage[Stage.DECODE]


def _shares(role: RoleSpec) -> Mapping[RolePath, int]:
    return {role.path: 1} if role.is_leaf else {leaf.path: leaf.share for leaf in role.roles}
