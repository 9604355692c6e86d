"""Checks that names in a file are text: protobuf hands over broken UTF-8 as bytes."""

import onnx
from google.protobuf.descriptor import FieldDescriptor as Field
from google.protobuf.message import Message

from fusec.ir.errors import ConfigError

__all__ = ["check_text"]

_IDLE = frozenset({"doc_string", "producer_name", "producer_version", "metadata_props"})
"""Fields that nothing here reads; some tools write them in the encoding of their machine."""


def check_text(model: onnx.ModelProto, name: str) -> None:
    """Check all text in a model that importing reads: names, operators, domains.

    Raises:
        ConfigError: some of it is not UTF-8; says which.
    """
    bad = _bad(model)
    if bad is not None:
        raise ConfigError(f"{name}: damaged, {bad} is not UTF-8")


def _bad(message: Message) -> str | None:
    """Give the first field, with its value, that is not text."""
    if isinstance(message, onnx.TensorProto):
        # Its data may be large, and asking for all fields would copy it.
        items = [("name", message.name), *(("entry", e) for e in message.external_data)]
    else:
        items = [
            (field.name, value)
            for field, values in message.ListFields()
            if field.type in (Field.TYPE_STRING, Field.TYPE_MESSAGE) and field.name not in _IDLE
            for value in ([values] if isinstance(values, str | bytes | Message) else values)
        ]
    for field, value in items:
        if isinstance(value, bytes):
            return f"{type(message).__name__}.{field} {value[:40]!r}"
        if isinstance(value, Message):
            found = _bad(value)
            if found is not None:
                return found
    return None
