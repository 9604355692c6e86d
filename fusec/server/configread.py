"""From text or JSON to a configuration: one nested dictionary, typed and checked by the schema.

It has the names of config.pbtxt, enums as strings and maps as objects: what `.../config` answers.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

from fusec.ir.errors import ConfigError
from fusec.server.configtypes import CONFIG, SCHEMA
from fusec.server.pbtxt import Entry, Scalar, parse_text
from fusec.server.schema import SCALARS, Field

__all__ = ["config_of_json", "config_of_text"]

Warn = Callable[[str], None]

_REFUSED = {
    "sequence_batching": "models that keep state between requests",
    "ensemble_scheduling": "ensembles",
}
_BITS = {"int32": (-(1 << 31), (1 << 31) - 1), "uint32": (0, (1 << 32) - 1)}
_BITS |= {"int64": (-(1 << 63), (1 << 63) - 1), "uint64": (0, (1 << 64) - 1)}
_BOOLS = {"true": True, "True": True, "t": True, "1": True}
_BOOLS |= {"false": False, "False": False, "f": False, "0": False}


def config_of_text(text: str, where: str, warn: Warn) -> dict[str, Any]:
    """Read a config.pbtxt.

    Args:
        text: of the file.
        where: its name, for errors.
        warn: is told of fields that are not known, which have no effect.

    Raises:
        ConfigError: not the text format, a wrong type, or what this server cannot do.
    """
    return _message(parse_text(text, where), CONFIG, where, warn)


def config_of_json(data: object, where: str, warn: Warn) -> dict[str, Any]:
    """Read a configuration that came as JSON; see `config_of_text`."""
    return _object(data, CONFIG, where, warn, 0)


def _message(entries: tuple[Entry, ...], name: str, where: str, warn: Warn) -> dict[str, Any]:
    fields = SCHEMA.messages[name]
    found: dict[str, Any] = {}
    for entry in entries:
        place = f"{where}:{entry.line}"
        field = _known(fields, entry.name, name, place, warn)
        if field is None:
            continue
        if field.key is not None:
            key, value = _pair(entry, field, place, warn)
            found.setdefault(field.name, {})[key] = value
            continue
        value = _value(entry.value, field, place, warn)
        _put(found, field, value, fields, place)
    return found


def _pair(entry: Entry, field: Field, place: str, warn: Warn) -> tuple[str, Any]:
    if isinstance(entry.value, Scalar):
        raise ConfigError(f"{place}: {field.name} wants {{ key: ... value: ... }}")
    parts = {part.name: part.value for part in entry.value}
    key = parts.get("key")
    if not isinstance(key, Scalar) or "value" not in parts:
        raise ConfigError(f"{place}: {field.name} wants {{ key: ... value: ... }}")
    key_field = Field(0, f"key of {field.name}", field.key or "", False, None, None)
    return str(_value(key, key_field, place, warn)), _value(parts["value"], field, place, warn)


def _value(value: "Scalar | tuple[Entry, ...]", field: Field, place: str, warn: Warn) -> Any:
    if field.type in SCHEMA.messages:
        if isinstance(value, Scalar):
            raise ConfigError(f"{place}: {field.name} wants a message, {{ ... }}")
        return _message(value, field.type, place.rpartition(":")[0], warn)
    if not isinstance(value, Scalar):
        raise ConfigError(f"{place}: {field.name} wants one value, got a message")
    return _scalar(value.text, value.kind, field, place)


def _scalar(text: str, kind: str, field: Field, place: str) -> Any:
    wrong = ConfigError(f"{place}: {field.name} wants {field.type}, got {text[:80]!r}")
    if field.type in SCHEMA.enums:
        return _enum(text, SCHEMA.enums[field.type], wrong)
    if (field.type == "string") != (kind == "string"):
        raise wrong
    if field.type == "string":
        return text
    if field.type == "bool":
        if text not in _BOOLS:
            raise wrong
        return _BOOLS[text]
    try:
        number = int(text, 0) if text.lower().startswith(("0x", "-0x")) else int(text)
    except ValueError as e:
        raise wrong from e
    return _fits(number, field, wrong)


def _object(data: object, name: str, where: str, warn: Warn, depth: int) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise ConfigError(f"{where}: wanted an object, got {type(data).__name__}")
    fields = SCHEMA.messages[name]
    found: dict[str, Any] = {}
    for key, value in data.items():
        place = f"{where}.{key}"[:200]
        field = _known(fields, str(key), name, where, warn)
        if field is None or value is None:
            continue
        if field.key is not None:
            if not isinstance(value, dict):
                raise ConfigError(f"{place}: wanted an object")
            found[field.name] = {
                str(k): _json_value(v, field, place, warn, depth) for k, v in value.items()
            }
            continue
        values = value if field.repeated and isinstance(value, list) else [value]
        for each in values:
            _put(found, field, _json_value(each, field, place, warn, depth), fields, place)
    return found


def _json_value(value: object, field: Field, place: str, warn: Warn, depth: int) -> Any:
    if field.type in SCHEMA.messages:
        return _object(value, field.type, place, warn, depth + 1)
    wrong = ConfigError(f"{place}: wanted {field.type}, got {str(value)[:80]!r}")
    if field.type in SCHEMA.enums:
        return _enum(str(value), SCHEMA.enums[field.type], wrong)
    wanted = {"string": str, "bool": bool}.get(field.type)
    if wanted is not None:
        if type(value) is not wanted:
            raise wrong
        return value
    # Protobuf writes 64-bit integers as strings.
    if isinstance(value, str) and value.removeprefix("-").isdigit() and len(value) < 21:
        value = int(value)
    if isinstance(value, float) and math.isfinite(value) and value.is_integer():
        value = int(value)
    if type(value) is not int:
        raise wrong
    return _fits(value, field, wrong)


def _known(
    fields: Mapping[str, Field], name: str, message: str, where: str, warn: Warn
) -> Field | None:
    field = fields.get(name)
    if field is None:
        if message == CONFIG and name in _REFUSED:
            raise ConfigError(f"{where}: {name}: {_REFUSED[name]} are not supported")
        warn(f"{where}: {name[:80]!r} is not known here and has no effect")
    return field


def _put(
    found: dict[str, Any], field: Field, value: Any, fields: Mapping[str, Field], place: str
) -> None:
    if field.repeated:
        found.setdefault(field.name, []).append(value)
        return
    others = [n for n, f in fields.items() if field.choice and f.choice == field.choice]
    taken = [n for n in found if n == field.name or n in others]
    if taken:
        raise ConfigError(f"{place}: {field.name} is set twice, or beside {taken[0]}")
    found[field.name] = value


def _enum(text: str, values: Mapping[str, int], wrong: ConfigError) -> str:
    if text in values:
        return text
    by_number = {str(number): name for name, number in values.items()}
    if text not in by_number:
        raise wrong
    return by_number[text]


def _fits(number: int, field: Field, wrong: ConfigError) -> int:
    assert field.type in SCALARS
    low, high = _BITS[field.type]
    if not low <= number <= high:
        raise wrong
    return number
