"""Operators of com.microsoft that the standard took over unchanged: evaluated as those."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from fusec.importers.onnx.call import Call
from fusec.importers.onnx.ops import generate, grid, index, quant, slicing
from fusec.importers.onnx.ops.contrib_quant import MICROSOFT
from fusec.importers.onnx.table import Op
from fusec.importers.onnx.values import Value

# Operator -> its standard twin and the version of the standard that says the same.
_TWINS: Mapping[str, tuple[Op, int]] = {
    "GatherND": (index.OPS["GatherND"], 12),
    "GridSample": (grid.OPS["GridSample"], 16),
    "Pad": (slicing.OPS["Pad"], 13),
    "Range": (generate.OPS["Range"], 11),
    "Unique": (index.OPS["Unique"], 11),
}


def _as_standard(op: Op, version: int) -> Op:
    def plain(call: Call) -> Call:
        return dataclasses.replace(call, domain="", opset=version)

    def run(call: Call, *inputs: Value) -> Any:
        return op.run(plain(call), *inputs)

    def on_host(call: Call, *inputs: Value) -> Any:
        assert op.numpy is not None
        return op.numpy(plain(call), *inputs)

    return dataclasses.replace(op, run=run, numpy=None if op.numpy is None else on_host)


def _quantised_conv(call: Call, *inputs: Value) -> Any:
    """QLinearConv, which here may have its channels last."""
    if not call.attr("channels_last", 0):
        return quant.OPS["QLinearConv"].run(call, *inputs)
    x, *rest = inputs
    y: Any = quant.OPS["QLinearConv"].run(call, _moved(x, -1, 1), *rest)
    return _moved(y, 1, -1)


def _moved(x: Any, source: int, target: int) -> Any:
    return x.movedim(source, target)


_TABLE: Mapping[str, Op] = {
    "QLinearConv": Op(run=_quantised_conv),
    **{name: _as_standard(op, version) for name, (op, version) in _TWINS.items()},
}
DOMAIN_OPS: Mapping[tuple[str, str], Op] = {(MICROSOFT, k): op for k, op in _TABLE.items()}
