"""Constants: literals in the graph and tensors filled with one value."""

import math
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import torch

from fusec.importers.onnx.call import Call
from fusec.importers.onnx.table import Op
from fusec.importers.onnx.values import (
    Array,
    Value,
    elem_type,
    from_numpy,
    has_torch_dtype,
    ints,
    is_text,
    to_host,
    torch_dtype,
)

# A filled integer vector this short is structure: it is on its way to a shape.
_SMALL: Final = 64


def literal(name: str, value: Any) -> Array:
    """Return the host value of a ``Constant`` node's attribute.

    Args:
        name: attribute name: ``value``, ``value_float``, ``value_ints``, ...
        value: parsed attribute.
    """
    if isinstance(value, np.ndarray):
        return value
    if name.startswith("value_float"):
        return np.array(value, dtype=np.float32)
    if name.startswith("value_int"):
        return np.array(value, dtype=np.int64)
    return np.array(value, dtype=object)


def _constant(call: Call) -> Value:
    return next(literal(name, value) for name, value in call.attributes.items())


def _constant_of_shape(call: Call, shape: Value) -> Value:
    """Fill a shape with one value; short integer vectors stay host values."""
    fill = call.attr("value", np.zeros(1, dtype=np.float32)).reshape(())
    sizes = ints(shape)
    fixed = [size for size in sizes if isinstance(size, int)]
    small = len(fixed) == len(sizes) <= 1 and math.prod(fixed) <= _SMALL
    if not has_torch_dtype(fill) or is_text(fill):
        return np.full([int(size) for size in to_host(shape)], fill, dtype=fill.dtype)
    if small and fill.dtype.kind in "ib":
        return np.full(fixed, fill, dtype=fill.dtype)
    dtype = torch_dtype(elem_type(fill.dtype))
    if fill.dtype.kind in "fiub":
        return torch.full(sizes, fill.item(), dtype=dtype)
    return from_numpy(fill).expand(sizes).clone()


OPS: Final[Mapping[str, Op]] = {
    "Constant": Op(run=_constant, either=True),
    "ConstantOfShape": Op(run=_constant_of_shape, host=frozenset({0}), either=True),
}
