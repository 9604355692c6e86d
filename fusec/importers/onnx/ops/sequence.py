"""Sequences and optionals: Python lists and ``None``."""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import torch

from fusec.importers.onnx.call import Call
from fusec.importers.onnx.table import Op
from fusec.importers.onnx.values import Int, Value, ints, to_host, to_tensor


def _items(call: Call, sequence: Value) -> list[Any]:
    if not isinstance(sequence, list):
        call.fail(f"wanted a sequence, got {type(sequence).__name__}")
    return sequence


def _position(call: Call, position: Value, length: int) -> int:
    index = int(ints(position)[0])
    if not -length <= index < length:
        call.fail(f"position {index} is outside a sequence of {length}")
    return index % length


def _empty(call: Call) -> Value:
    return []


def _construct(call: Call, *items: Value) -> Value:
    return list(items)


def _at(call: Call, sequence: Value, position: Value) -> Value:
    items = _items(call, sequence)
    found: Value = items[_position(call, position, len(items))]
    return found


def _erase(call: Call, sequence: Value, position: Value = None) -> Value:
    items = list(_items(call, sequence))
    del items[len(items) - 1 if position is None else _position(call, position, len(items))]
    return items


def _insert(call: Call, sequence: Value, item: Value, position: Value = None) -> Value:
    items = list(_items(call, sequence))
    index = len(items) if position is None else int(ints(position)[0])
    if not -len(items) <= index <= len(items):
        call.fail(f"position {index} is outside a sequence of {len(items)}")
    items.insert(index, item)
    return items


def _length(call: Call, sequence: Value) -> Value:
    return np.array(len(_items(call, sequence)), dtype=np.int64)


def _split(call: Call, value: Value, split: Value = None) -> Value:
    """Cut along an axis, by default into slices of one; `split` is one size or all sizes."""
    axis = call.attr("axis", 0)
    if split is None:
        return _slices(call, value, axis)
    total = _extent(value, axis)
    sizes = ints(split)
    if to_host(split).ndim == 0:
        step = sizes[0]
        if not isinstance(total, int) or not isinstance(step, int):
            call.fail("the number of pieces depends on a free extent; give it a fixed size")
        sizes = [min(step, total - start) for start in range(0, total, step)]
    if isinstance(value, np.ndarray):
        return list(np.split(value, np.cumsum([int(size) for size in sizes])[:-1], axis))
    return list(torch.split(to_tensor(value), sizes, axis))  # type: ignore[arg-type]


def _slices(call: Call, value: Value, axis: int) -> Value:
    total = _extent(value, axis)
    if not isinstance(total, int):
        call.fail("the number of pieces depends on a free extent; give it a fixed size")
    keep = bool(call.attr("keepdims", 1))
    if isinstance(value, np.ndarray):
        parts = [np.take(value, [i] if keep else i, axis) for i in range(total)]
        return [np.asarray(part) for part in parts]
    tensor = to_tensor(value)
    return list(torch.split(tensor, 1, axis) if keep else torch.unbind(tensor, axis))


def _extent(value: Value, axis: int) -> Int:
    size: Int = value.shape[axis] if isinstance(value, (np.ndarray, torch.Tensor)) else 0
    return size


def _concat(call: Call, sequence: Value) -> Value:
    items = _items(call, sequence)
    axis, new = call.attr("axis"), call.attr("new_axis", 0)
    if items and all(isinstance(item, np.ndarray) for item in items):
        return np.stack(items, axis) if new else np.concatenate(items, axis)
    tensors = [to_tensor(item) for item in items]
    return torch.stack(tensors, axis) if new else torch.cat(tensors, axis)


def _map(call: Call, sequence: Value, *others: Value) -> tuple[Value, ...]:
    """Run the body on each item, with the matching item of every other sequence."""
    body = call.attr("body")
    columns: list[list[Value]] = [[] for _ in body.outputs]
    for index, item in enumerate(_items(call, sequence)):
        rest = [other[index] if isinstance(other, list) else other for other in others]
        for column, result in zip(columns, call.run(body, [item, *rest]), strict=True):
            column.append(result)
    return tuple(columns)


def _optional(call: Call, value: Value = None) -> Value:
    return value


def _has_element(call: Call, value: Value = None) -> Value:
    return np.array(value is not None)


def _get_element(call: Call, value: Value) -> Value:
    if value is None:
        call.fail("the optional is empty")
    return value


OPS: Final[Mapping[str, Op]] = {
    "ConcatFromSequence": Op(run=_concat, either=True),
    "Optional": Op(run=_optional, either=True),
    "OptionalGetElement": Op(run=_get_element, either=True),
    "OptionalHasElement": Op(run=_has_element, either=True),
    "SequenceAt": Op(run=_at, host=frozenset({1}), either=True),
    "SequenceConstruct": Op(run=_construct, either=True),
    "SequenceEmpty": Op(run=_empty, either=True),
    "SequenceErase": Op(run=_erase, host=frozenset({1}), either=True),
    "SequenceInsert": Op(run=_insert, host=frozenset({2}), either=True),
    "SequenceLength": Op(run=_length, either=True),
    "SequenceMap": Op(run=_map, either=True),
    "SplitToSequence": Op(run=_split, host=frozenset({1}), either=True),
}
