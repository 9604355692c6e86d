"""A small language for message types: what protobuf descriptors and config files are read by.

    Name: 1 field type; 2 field repeated type; 3 field map<key,type>; 4 field type /choice
    enum Name: VALUE 0; OTHER 1

Fields with the same `/choice` exclude each other.
"""

from collections.abc import Mapping

from fusec.ir.frozen import dataclass

__all__ = ["SCALARS", "Field", "Schema", "parse_schema"]

SCALARS = {
    "double": 1,
    "float": 2,
    "int64": 3,
    "uint64": 4,
    "int32": 5,
    "bool": 8,
    "string": 9,
    "bytes": 12,
    "uint32": 13,
}
"""Types that are no messages or enums, and protobuf's numbers for them."""


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a message."""

    number: int
    name: str
    type: str
    """Of one element, or of a map's values."""
    repeated: bool
    key: str | None
    """Type of a map's keys; None: no map."""
    choice: str | None


@dataclass(frozen=True, slots=True)
class Schema:
    """Message types and enums by name."""

    messages: Mapping[str, Mapping[str, Field]]
    enums: Mapping[str, Mapping[str, int]]


def parse_schema(text: str) -> Schema:
    """Read a table of types; lines that start with spaces go on with the line before."""
    messages: dict[str, dict[str, Field]] = {}
    enums: dict[str, dict[str, int]] = {}
    for line in text.strip().replace("\n  ", " ").splitlines():
        head, _, body = line.partition(":")
        items = [item.split() for item in body.split(";") if item.strip()]
        if head.startswith("enum "):
            enums[head.removeprefix("enum ")] = {name: int(number) for name, number in items}
        else:
            messages[head] = {item[1]: _field(item) for item in items}
    return Schema(messages, enums)


def _field(item: list[str]) -> Field:
    choice = item.pop()[1:] if item[-1].startswith("/") else None
    kind, key = item[-1], None
    if kind.startswith("map<"):
        key, kind = kind[4:-1].split(",")
    return Field(int(item[0]), item[1], kind, "repeated" in item[2:-1], key, choice)
