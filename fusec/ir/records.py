"""Records as JSON data and back: the text form of templates, recipes and plans.

Tuples become lists, records become {"": class name, field: value}, floats keep their bits.
"""

from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from enum import StrEnum
from typing import TypeAlias

from fusec.ir.errors import ArtifactError

__all__ = ["Json", "from_json", "to_json"]

Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | float | bool | None"

_SPECIAL_FLOATS = {"nan": float("nan"), "inf": float("inf"), "-inf": float("-inf")}


def to_json(value: object) -> Json:
    """Give a record as JSON data.

    Raises:
        TypeError: a value that is no record, tuple, enum or plain scalar.
    """
    if isinstance(value, float):
        # 1 and 1.0 are different attributes, so a float never prints as an integer.
        return {"": "float", "v": value.hex() if value - value == 0 else str(value)}
    if isinstance(value, StrEnum):
        return {"": type(value).__name__, "v": str(value)}
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, tuple):
        return [to_json(v) for v in value]
    if not is_dataclass(value) or isinstance(value, type):
        raise TypeError(f"cannot write {type(value).__name__} as JSON")
    out: dict[str, Json] = {"": type(value).__name__}
    for f in fields(value):
        out[f.name] = to_json(getattr(value, f.name))
    return out


def from_json(data: Json, records: Mapping[str, Callable[..., object]]) -> object:
    """Rebuild what `to_json` wrote.

    Args:
        data: JSON data.
        records: the classes and enums that may appear, by name; nothing else is ever called.

    Raises:
        ArtifactError: unknown class, missing or unknown field, or a malformed number.
    """
    if isinstance(data, list):
        # Most of a plan are lists of names and hashes.
        return tuple([d if type(d) is str else from_json(d, records) for d in data])
    if not isinstance(data, dict):
        return data
    name = data.get("")
    try:
        if name == "float":
            text = str(data["v"])
            return _SPECIAL_FLOATS[text] if text in _SPECIAL_FLOATS else float.fromhex(text)
        if not isinstance(name, str) or name not in records:
            raise ArtifactError(f"unknown record {name!r}; known: {', '.join(sorted(records))}")
        make = records[name]
        if isinstance(make, type) and issubclass(make, StrEnum):
            return make(str(data["v"]))
        return make(**{k: from_json(v, records) for k, v in data.items() if k})
    except (KeyError, TypeError, ValueError, OverflowError) as e:
        raise ArtifactError(f"malformed record {name!r}: {e}") from e
