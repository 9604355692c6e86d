"""Feature preparation of ai.onnx.ml: scaling, imputing, encoding, joining."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fusec.importers.onnx.call import Call
from fusec.importers.onnx.ops.ml_scores import ML
from fusec.importers.onnx.ops.support import cast_to
from fusec.importers.onnx.table import Op
from fusec.importers.onnx.values import Value, is_text, to_host, to_tensor


def _float(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float32 else cast_to(x, torch.float32)


def _extract(call: Call, x: Value, index: Value) -> Value:
    if is_text(x):
        columns = to_host(index).ravel().astype(np.int64)
        picked = to_host(x)[..., columns]
        return picked[None] if picked.ndim == 1 else picked
    tensor = to_tensor(x)
    chosen = torch.index_select(
        tensor, tensor.dim() - 1, cast_to(to_tensor(index).reshape(-1), torch.int64)
    )
    return chosen.unsqueeze(0) if chosen.dim() == 1 else chosen


def _binarize(call: Call, x: Tensor) -> Tensor:
    return cast_to(x > float(call.attr("threshold", 0.0)), x.dtype)


def _impute(call: Call, x: Tensor) -> Tensor:
    if x.dtype.is_floating_point:
        fill, old = call.attr("imputed_value_floats"), float(call.attr("replaced_value_float", 0.0))
        gone = torch.isnan(x) if np.isnan(old) else x == old
    else:
        fill, old = call.attr("imputed_value_int64s"), int(call.attr("replaced_value_int64", 0))
        gone = x == old
    if len(fill) not in (1, x.shape[-1]):
        call.fail(f"{len(fill)} imputed values for {x.shape[-1]} features")
    return torch.where(gone, torch.tensor(list(fill), dtype=x.dtype), x)


def _normalize(call: Call, x: Tensor) -> Tensor:
    x, norm = _float(x), str(call.attr("norm", "MAX"))
    dim = 0 if x.dim() == 1 else 1
    if norm == "MAX":
        size = x.amax(dim=dim, keepdim=True)
    elif norm == "L1":
        size = x.abs().sum(dim=dim, keepdim=True)
    elif norm == "L2":
        size = torch.sqrt((x * x).sum(dim=dim, keepdim=True))
    else:
        call.fail(f"norm is {norm!r}, want MAX, L1 or L2")
    return torch.where(size == 0, x, x / size)


def _scale(call: Call, x: Tensor, offset: Tensor | None, scale: Tensor | None) -> Tensor:
    y = _float(x) if offset is None else _float(x) - offset
    return y if scale is None else y * scale


def _vectorize(call: Call, *inputs: Tensor) -> Tensor:
    """Join features; each input is cut or zero-padded to its declared width."""
    widths = list(call.attr("inputdimensions", [])) or [x.shape[-1] for x in inputs]
    parts = []
    for x, width in zip(inputs, widths, strict=True):
        rows = x.unsqueeze(-1) if x.dim() == 1 else x.flatten(1)
        have = rows.shape[1]
        rows = rows[:, :width]
        parts.append(torch.nn.functional.pad(_float(rows), (0, max(0, width - have))))
    return torch.cat(parts, dim=1)


def _one_hot(call: Call, x: Value) -> Value:
    words = call.attr("cats_strings", None)
    if words:
        values = to_host(x)
        hits = values[..., None] == np.array(list(words), dtype=object)
        return cast_to(torch.from_numpy(np.asarray(hits, dtype=bool)), torch.float32)
    categories = torch.tensor(list(call.attr("cats_int64s")), dtype=torch.int64)
    hit = cast_to(to_tensor(x), torch.int64).unsqueeze(-1) == categories
    return cast_to(hit, torch.float32)


def _map_items(call: Call, value: Any) -> Mapping[Any, Any]:
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if not isinstance(value, Mapping):
        call.fail(f"wanted a map, got {type(value).__name__}")
    return value


def _dict_vectorize(call: Call, value: Any) -> Value:
    items = _map_items(call, value)
    words = call.attr("string_vocabulary", None) or call.attr("int64_vocabulary", None)
    if not words:
        call.fail("the node has no vocabulary")
    sample = next(iter(items.values()), 0.0)
    if isinstance(sample, str):
        return np.array([[items.get(word, "") for word in words]], dtype=object)
    kind = np.asarray(sample).dtype
    kind = np.dtype(np.float32) if kind == np.float64 and isinstance(sample, float) else kind
    return torch.from_numpy(np.array([[items.get(word, 0) for word in words]], dtype=kind))


def _cast_map(call: Call, value: Any) -> Value:
    items = _map_items(call, value)
    pairs = sorted(items.items())
    if call.attr("map_form", "DENSE") == "SPARSE":
        row: list[Any] = [0] * int(call.attr("max_map", 1))
        for key, item in pairs:
            row[int(key)] = item
    else:
        row = [item for _, item in pairs]
    target = str(call.attr("cast_to", "TO_FLOAT"))
    if target == "TO_STRING":
        return np.array([[str(item) for item in row]], dtype=object)
    kind = np.float32 if target == "TO_FLOAT" else np.int64
    return torch.from_numpy(np.array([[kind(float(item)) for item in row]]))


def _zip_map(call: Call, x: Tensor) -> Value:
    """Give one map per row."""
    labels = call.attr("classlabels_strings", None) or call.attr("classlabels_int64s", None)
    if not labels:
        call.fail("the node has no class labels")
    rows = to_host(x if x.dim() == 2 else x.reshape(1, -1))
    if rows.shape[1] != len(labels):
        call.fail(f"{rows.shape[1]} scores for {len(labels)} labels")
    return [dict(zip(labels, map(float, row), strict=True)) for row in rows]


DOMAIN_OPS: Mapping[tuple[str, str], Op] = {
    (ML, "ArrayFeatureExtractor"): Op(run=_extract, either=True),
    (ML, "Binarizer"): Op(run=_binarize),
    (ML, "CastMap"): Op(run=_cast_map, either=True),
    (ML, "DictVectorizer"): Op(run=_dict_vectorize, either=True),
    (ML, "FeatureVectorizer"): Op(run=_vectorize),
    (ML, "Imputer"): Op(run=_impute),
    (ML, "Normalizer"): Op(run=_normalize),
    (ML, "OneHotEncoder"): Op(run=_one_hot, either=True),
    (ML, "Scaler"): Op(run=_scale, lifted=("offset", "scale")),
    (ML, "ZipMap"): Op(run=_zip_map),
}
