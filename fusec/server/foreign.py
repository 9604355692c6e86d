"""Settings of Triton's that clients may read here; each has one value, and stays as it is."""

from collections.abc import Mapping
from typing import Any

from fusec.server.errors import Fault, ServerError

__all__ = ["log_message", "log_settings", "trace_message", "trace_settings"]

_TRACE = {
    "trace_level": ["OFF"],
    "trace_rate": "1000",
    "trace_count": "-1",
    "log_frequency": "0",
    "trace_file": "",
    "trace_mode": "triton",
}
_LOG = {
    "log_file": "",
    "log_info": True,
    "log_warning": True,
    "log_error": True,
    "log_verbose_level": 0,
    "log_format": "default",
}
_FIELDS = {bool: "bool_param", int: "uint32_param", str: "string_param"}


def trace_settings(wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Give the settings of Triton's own traces: there are none.

    Args:
        wanted: other values.

    Raises:
        ServerError: there are some.
    """
    return _unchanged(_TRACE, wanted, "OpenTelemetry's variables switch traces on, at the start")


def log_settings(wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Give the settings of the log; see `trace_settings`."""
    return _unchanged(_LOG, wanted, "the log goes to standard error")


def trace_message(wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Give the same as gRPC's message has it."""
    settings = trace_settings(wanted)
    return {k: {"value": v if isinstance(v, list) else [v]} for k, v in settings.items()}


def log_message(wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Give the same as gRPC's message has it."""
    return {k: {_FIELDS[type(v)]: v} for k, v in log_settings(wanted).items()}


def _unchanged(settings: dict[str, Any], wanted: Mapping[str, Any], why: str) -> dict[str, Any]:
    if wanted:
        raise ServerError(f"settings cannot be changed here: {why}", Fault.UNSUPPORTED)
    return settings
