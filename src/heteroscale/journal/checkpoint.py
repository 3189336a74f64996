"""The planner's memory as one text with a version, for stores that keep it as a whole."""

from __future__ import annotations

import msgspec

from heteroscale.entities.state import FleetState
from heteroscale.errors import ConfigError, Problem

VERSION = 1


class _Kept(msgspec.Struct):
    version: int
    state: FleetState


class _Version(msgspec.Struct):
    version: int


_ENCODER = msgspec.json.Encoder(order="deterministic")
_DECODER = msgspec.json.Decoder(_Kept)
_VERSION = msgspec.json.Decoder(_Version)


def kept(state: FleetState) -> bytes:
    """Return what a store keeps; equal states give equal bytes."""
    return _ENCODER.encode(_Kept(version=VERSION, state=state))


def remembered(content: bytes, where: str) -> FleetState:
    """Return the state that was kept.

    Args:
        where: names for people what the content was read from.

    Raises:
        ConfigError: it is not what was kept, or of another version.
    """
    try:
        version = _VERSION.decode(content).version
        if version != VERSION:
            raise refused(where, f"must be version {VERSION}", version)
        return _DECODER.decode(content).state
    except msgspec.DecodeError as error:
        raise damaged(where, error) from error


def damaged(where: str, error: Exception) -> ConfigError:
    """Return the error of a store whose content cannot be read."""
    rule = f"is damaged ({error}); restore it, or take it away to start without memory"
    return refused(where, rule)


def refused(where: str, rule: str, value: object = None) -> ConfigError:
    """Return the error of a store that cannot be used as it is."""
    return ConfigError([Problem(path="store", rule=rule, value=value, file=where)])
