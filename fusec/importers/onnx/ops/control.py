"""Control flow: ``If``, ``Loop`` and ``Scan``, decided or unrolled while importing.

A condition or trip count that is a host value is decided here. Eagerly, tensors decide as well.
Under tracing a tensor condition of ``If`` becomes ``torch.cond``; a loop whose length only the data
tells cannot be captured.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import torch
from torch.fx.experimental.symbolic_shapes import free_unbacked_symbols

from fusec.importers.onnx.call import Call
from fusec.importers.onnx.table import Op
from fusec.importers.onnx.values import (
    TORCH,
    Value,
    is_symbolic,
    is_traced,
    numpy_dtype,
    to_host,
    to_tensor,
)

# A captured loop is written out; beyond this the graph would be too big to be of use.
_MAX_UNROLLED: Final = 4096


def _identity(call: Call, value: Value) -> Value:
    return value


def _if(call: Call, condition: Value) -> Value | tuple[Value, ...]:
    taken, other = call.attr("then_branch"), call.attr("else_branch")
    if isinstance(condition, torch.Tensor) and is_traced(condition):
        return _cond(call, condition, taken, other)
    return tuple(call.run(taken if _truth(call, condition) else other, []))


def _truth(call: Call, condition: Value) -> bool:
    value = to_host(condition)
    if value.size != 1:
        call.fail(f"a condition has one element, got shape {list(value.shape)}")
    return bool(value.reshape(-1)[0])


def _cond(call: Call, condition: torch.Tensor, taken: Any, other: Any) -> tuple[Value, ...]:
    """Capture both branches; what they use from outside is handed in."""
    free = {**call.free(taken), **call.free(other)}
    tensors = {key: value for key, value in free.items() if isinstance(value, torch.Tensor)}
    operands = tuple(tensors.values())

    def branch(graph: Any) -> Any:
        def run(*values: torch.Tensor) -> tuple[torch.Tensor, ...]:
            inner = dict(zip(tensors, values, strict=True))
            # An output of torch.cond may not be one of its operands.
            return tuple(
                result.clone() if any(result is value for value in values) else result
                for result in map(to_tensor, call.run(graph, [], inner))
            )

        return run

    try:
        # torch.cond itself would compile the interpreter; the operator under it only traces.
        results = torch.ops.higher_order.cond(
            condition.reshape(()), branch(taken), branch(other), operands
        )
    except (RuntimeError, TypeError, AssertionError) as error:
        call.fail(
            "the condition is computed from the data of the request and the branches cannot be "
            f"captured together ({str(error).splitlines()[0] if str(error) else error!r}); bind "
            "the input that decides it, or run this model uncompiled"
        )
    before = {symbol for value in operands for symbol in free_unbacked_symbols(value)}
    if any(free_unbacked_symbols(result) - before for result in results):
        call.fail(
            "the condition is computed from the data of the request and the branches cannot be "
            "captured together: their results differ in shape; bind the input that decides it, "
            "or run this model uncompiled"
        )
    return tuple(results)


def _loop(call: Call, *operands: Value) -> tuple[Value, ...]:
    limit, condition, *carried = (*operands, None, None)[: max(len(operands), 2)]
    body = call.attr("body")
    count = _trip_count(call, limit)
    going = condition is None or _loop_condition(call, condition)
    rows: list[list[Value]] = [[] for _ in range(len(body.outputs) - 1 - len(carried))]
    step = 0
    while going and (count is None or step < count):
        if step == _MAX_UNROLLED and torch.compiler.is_exporting():
            call.fail(f"runs over {_MAX_UNROLLED} times; too long to write out in a graph")
        results = call.run(body, [np.array(step), np.array(True), *carried])
        going = _loop_condition(call, results[0])
        carried = results[1 : 1 + len(carried)]
        for row, value in zip(rows, results[1 + len(carried) :], strict=True):
            row.append(value)
        step += 1
    infos = body.results[1 + len(carried) :]
    return (*carried, *(stack(row, 0, info) for row, info in zip(rows, infos, strict=True)))


def _trip_count(call: Call, limit: Value) -> int | None:
    if limit is None:
        return None
    if isinstance(limit, torch.Tensor) and is_traced(limit):
        call.fail("the trip count is computed from the data of the request; it cannot be captured")
    value = to_host(limit)
    if is_symbolic(value):
        call.fail("the trip count is a free extent; give this extent a fixed size")
    return int(value.reshape(-1)[0])


def _loop_condition(call: Call, condition: Value) -> bool:
    if isinstance(condition, torch.Tensor) and is_traced(condition):
        call.fail(
            "whether it goes on is computed from the data of the request; it runs eagerly only"
        )
    return _truth(call, condition)


def stack(row: Sequence[Value], axis: int, info: Any) -> Value:
    """Stack what the iterations gave; no iterations give an empty value of the declared type."""
    if not row:
        code, dims = info
        shape = [dim if isinstance(dim, int) else 0 for dim in dims or ()]
        shape.insert(axis % (len(shape) + 1), 0)
        if code in TORCH:
            return torch.zeros(shape, dtype=TORCH[code])
        return np.zeros(shape, dtype=numpy_dtype(code or 1))
    if all(isinstance(value, np.ndarray) for value in row):
        return np.stack([to_host(value) for value in row], axis)
    return torch.stack([to_tensor(value) for value in row], axis)


def _scan(call: Call, *operands: Value) -> tuple[Value, ...]:
    if call.opset < 9:
        return _scan_batched(call, *operands)
    inputs = call.attr("num_scan_inputs")
    states = list(operands[: len(operands) - inputs])
    sources = [to_tensor(value) for value in operands[len(states) :]]
    axes = call.attr("scan_input_axes", [0] * inputs)
    backward = call.attr("scan_input_directions", [0] * inputs)
    length = _scan_length(call, sources, axes)
    body = call.attr("body")
    rows: list[list[Value]] = [[] for _ in range(len(body.outputs) - len(states))]
    for step in range(length):
        slices = [
            source.select(axis, length - 1 - step if reverse else step)
            for source, axis, reverse in zip(sources, axes, backward, strict=True)
        ]
        results = call.run(body, [*states, *slices])
        states = results[: len(states)]
        for row, value in zip(rows, results[len(states) :], strict=True):
            row.append(value)
    return (*states, *_scan_outputs(call, rows, body.results[len(states) :]))


def _scan_length(call: Call, sources: Sequence[torch.Tensor], axes: Sequence[int]) -> int:
    length = sources[0].shape[axes[0]]
    if not isinstance(length, int):
        call.fail("the scanned axis is a free extent; give this extent a fixed size")
    if length > _MAX_UNROLLED and torch.compiler.is_exporting():
        call.fail(f"runs over {_MAX_UNROLLED} times; too long to write out in a graph")
    return length


def _scan_outputs(call: Call, rows: Sequence[list[Value]], infos: Sequence[Any]) -> list[Value]:
    axes = call.attr("scan_output_axes", [0] * len(rows))
    backward = call.attr("scan_output_directions", [0] * len(rows))
    return [
        stack(row[::-1] if reverse else row, axis, info)
        for row, axis, reverse, info in zip(rows, axes, backward, infos, strict=True)
    ]


def _scan_batched(call: Call, lengths: Value, *operands: Value) -> tuple[Value, ...]:
    """Opset 8: axis 0 of everything is the batch, axis 1 is scanned, rows may be shorter."""
    body = call.attr("body")
    inputs = call.attr("num_scan_inputs")
    tensors = [to_tensor(value) for value in operands]
    count = len(tensors) - inputs
    backward = call.attr("directions", [0] * inputs)
    full = _scan_length(call, tensors[count:], [1] * inputs)
    batch = tensors[0].shape[0]
    per_row = [full] * batch if lengths is None else [int(n) for n in to_host(lengths).ravel()]
    found = []
    for item in range(batch):
        states: list[Value] = [tensor[item] for tensor in tensors[:count]]
        rows: list[list[Value]] = [[] for _ in range(len(body.outputs) - count)]
        for step in range(per_row[item]):
            slices = [
                tensor[item, per_row[item] - 1 - step if reverse else step]
                for tensor, reverse in zip(tensors[count:], backward, strict=True)
            ]
            results = call.run(body, [*states, *slices])
            states = results[:count]
            for row, value in zip(rows, results[count:], strict=True):
                row.append(value)
        infos = body.results[count:]
        outputs = [to_tensor(stack(r, 0, info)) for r, info in zip(rows, infos, strict=True)]
        found.append([*map(to_tensor, states), *(_pad_rows(value, full) for value in outputs)])
    return tuple(torch.stack(column) for column in zip(*found, strict=True))


def _pad_rows(value: torch.Tensor, length: int) -> torch.Tensor:
    missing = length - value.shape[0]
    return torch.cat([value, value.new_zeros((missing, *value.shape[1:]))]) if missing else value


OPS: Final[Mapping[str, Op]] = {
    "Identity": Op(run=_identity, either=True),
    "If": Op(run=_if, either=True),
    "Loop": Op(run=_loop, host=frozenset({0}), either=True),
    "Scan": Op(run=_scan, either=True),
}
