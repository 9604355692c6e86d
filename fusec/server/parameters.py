"""Parameters of requests and tensors, and what this server reads in them."""

import math
from typing import Any

from fusec.ir.frozen import dataclass
from fusec.server.errors import ServerError
from fusec.server.limits import Limits
from fusec.server.messages import NO_PARAMETERS, Parameters

__all__ = ["Asks", "read_asks", "read_parameters", "read_text"]

_MOST_US = 1 << 53
_NO_SHARED = "shared memory is not supported; send the data in the request"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asks:
    """What a request asks of the scheduler."""

    priority: int = 0
    """1 is the highest; 0: the model's default."""
    timeout_us: int | None = None
    """Longest wait; None: the model's default."""
    tenant: str | None = None
    slo_ms: float | None = None
    """After how long the answer is worth nothing."""


_NOTHING = Asks()


def read_parameters(given: Any, what: str, limits: Limits) -> Parameters:
    """Check parameters as JSON has them.

    Raises:
        ServerError: no object of strings, numbers and booleans; too many, or too long.
    """
    if given is None:
        return NO_PARAMETERS
    if not isinstance(given, dict):
        raise ServerError(f"parameters of {what} must be an object")
    if len(given) > limits.parameters:
        raise ServerError(f"{what} has {len(given)} parameters, at most {limits.parameters} can be")
    for name, value in given.items():
        if not isinstance(value, bool | int | float | str):
            raise ServerError(
                f"parameter {name[:80]!r} of {what} must be a string, number or boolean"
            )
        if isinstance(value, str):
            read_text(value, f"parameter {name[:80]!r} of {what}", limits)
    if "shared_memory_region" in given:
        raise ServerError(f"{what}: {_NO_SHARED}")
    return given


def read_text(given: Any, what: str, limits: Limits) -> str:
    """Check a name or id.

    Raises:
        ServerError: no string, or a very long one.
    """
    if not isinstance(given, str):
        raise ServerError(f"{what} must be a string, got {type(given).__name__}")
    if len(given) > limits.text_bytes:
        raise ServerError(f"{what} has {len(given)} characters, at most {limits.text_bytes} can be")
    return given


def read_asks(parameters: Parameters) -> Asks:
    """Find what a request asks of the scheduler. Clients are not trusted: all is bounded.

    Raises:
        ServerError: a priority or timeout that is no unsigned integer, an SLO that is no time, a
            tenant that is no string.
    """
    if not parameters:
        return _NOTHING
    return Asks(
        priority=_unsigned(parameters, "priority") or 0,
        timeout_us=_unsigned(parameters, "timeout") or None,
        tenant=_tenant(parameters.get("tenant")),
        slo_ms=read_slo(parameters.get("slo_ms"), "parameter 'slo_ms'"),
    )


def read_slo(given: object, what: str) -> float | None:
    """Read a time in milliseconds; strings count, as HTTP headers and config.pbtxt have only these.

    Raises:
        ServerError: no positive number of a sensible size.
    """
    if given is None:
        return None
    try:
        value = float(given) if isinstance(given, int | float | str) else math.nan
    except (ValueError, OverflowError):
        value = math.nan
    if isinstance(given, bool) or not 0 < value <= _MOST_US / 1000:
        raise ServerError(f"{what} must be a positive number of milliseconds")
    return value


def _unsigned(parameters: Parameters, name: str) -> int | None:
    value = parameters.get(name)
    if value is None:
        return None
    if type(value) is not int or not 0 <= value <= _MOST_US:
        raise ServerError(f"Unable to parse {name!r}: it must be an unsigned integer")
    return value


def _tenant(given: object) -> str | None:
    if given is not None and not isinstance(given, str):
        raise ServerError("parameter 'tenant' must be a string")
    return given
