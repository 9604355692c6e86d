"""Label maps of ai.onnx.ml: LabelEncoder and CategoryMapper."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fusec.importers.onnx.call import Call
from fusec.importers.onnx.ops.ml_scores import ML
from fusec.importers.onnx.ops.support import cast_to
from fusec.importers.onnx.table import Op
from fusec.importers.onnx.values import Array, Value, from_numpy, is_text, to_host, to_tensor

_KINDS: Mapping[str, Any] = {"strings": object, "int64s": np.int64, "floats": np.float32}
_DEFAULTS: Mapping[str, tuple[str, Any]] = {
    "strings": ("default_string", "_Unused"),
    "int64s": ("default_int64", -1),
    "floats": ("default_float", -0.0),
}


def _lookup(x: Value, keys: Array, values: Array, default: Any) -> Value:
    """Replace each element by the value of its key; the first of equal keys counts."""
    fallback = np.array(default, dtype=values.dtype)
    if is_text(x) or keys.dtype == object or values.dtype == object:
        return _lookup_host(to_host(x), keys, values, fallback)
    return _lookup_tensor(to_tensor(x), keys, values, fallback)


def _lookup_host(x: Array, keys: Array, values: Array, default: Array) -> Value:
    table: dict[Any, Any] = {}
    for key, value in zip(map(_key, keys), values, strict=True):
        table.setdefault(key, value)
    found = [table.get(_key(item), default[()]) for item in x.ravel()]
    out = np.empty(len(found), dtype=values.dtype)
    out[:] = found
    return out.reshape(x.shape)


def _key(item: Any) -> Any:
    """Make NaN equal to itself."""
    plain = item.item() if isinstance(item, np.generic) else item
    return "\0nan" if isinstance(plain, float) and np.isnan(plain) else plain


def _lookup_tensor(x: Tensor, keys: Array, values: Array, default: Array) -> Tensor:
    plain = ~np.isnan(keys) if keys.dtype.kind == "f" else np.ones(len(keys), bool)
    ordered, first = np.unique(keys[plain], return_index=True)
    out = from_numpy(default).expand(x.shape)
    if len(ordered):
        table, order = from_numpy(values[plain][first]), from_numpy(ordered)
        x = cast_to(x, order.dtype) if x.dtype != order.dtype else x
        at = torch.clamp(torch.searchsorted(order, x.contiguous()), max=len(ordered) - 1)
        out = torch.where(order[at] == x, table[at], out)
    if not plain.all():
        out = torch.where(torch.isnan(x), from_numpy(values[~plain][:1]), out)
    return out.clone()


def _side(call: Call, side: str) -> tuple[str, Array]:
    """Return keys or values, and the name of their kind."""
    for kind, dtype in _KINDS.items():
        given = call.attr(f"{side}_{kind}", None)
        if given is not None and len(given):
            return kind, np.array(list(given), dtype=dtype)
    given = call.attr(f"{side}_tensor", None)
    if given is None:
        call.fail(f"the node has no {side}")
    array = np.asarray(given)
    if array.dtype.kind in "OUS":
        return "strings", _text(array)
    return "tensor", array.ravel()


def _text(array: Array) -> Array:
    out = np.empty(array.size, dtype=object)
    out[:] = [v.decode() if isinstance(v, bytes) else str(v) for v in array.ravel()]
    return out


def _default(call: Call, kind: str, values: Array) -> Any:
    given = call.attr("default_tensor", None)
    if given is not None:
        first = np.asarray(given).ravel()[0]
        return first.decode() if isinstance(first, bytes) else first
    if kind == "tensor":
        kind = "floats" if values.dtype.kind == "f" else "int64s"
    return call.attr(*_DEFAULTS[kind])


def _encode(call: Call, x: Value) -> Value:
    if call.opset < 2:
        classes = np.array(list(call.attr("classes_strings")), dtype=object)
        return _between(call, x, np.arange(len(classes)), classes)
    _, keys = _side(call, "keys")
    kind, values = _side(call, "values")
    if call.opset < 4 and keys.dtype.kind == "f":
        # NaN became a key that can be found in version 4.
        keys, values = keys[~np.isnan(keys)], values[~np.isnan(keys)]
    return _lookup(x, keys, values, _default(call, kind, values))


def _between(call: Call, x: Value, numbers: Array, words: Array) -> Value:
    """Map strings to numbers or numbers to strings, by what `x` holds."""
    if is_text(x):
        return _lookup(x, words, numbers.astype(np.int64), call.attr("default_int64", -1))
    return _lookup(x, numbers, words, call.attr("default_string", "_Unused"))


def _map_categories(call: Call, x: Value) -> Value:
    numbers = np.array(list(call.attr("cats_int64s")), dtype=np.int64)
    return _between(call, x, numbers, np.array(list(call.attr("cats_strings")), dtype=object))


DOMAIN_OPS: Mapping[tuple[str, str], Op] = {
    (ML, "LabelEncoder"): Op(run=_encode, either=True),
    (ML, "CategoryMapper"): Op(run=_map_categories, either=True),
}
