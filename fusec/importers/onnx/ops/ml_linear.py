"""Linear models of ai.onnx.ml."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fusec.importers.onnx.call import Call
from fusec.importers.onnx.ops.ml_scores import (
    ML,
    as_rows,
    class_labels,
    complement,
    labelled,
    transform,
    transform_name,
)
from fusec.importers.onnx.ops.support import cast_to
from fusec.importers.onnx.table import Op
from fusec.importers.onnx.values import Value


def _weights(values: Any, rows: int | None, like: Tensor) -> Tensor:
    flat = torch.tensor(list(values), dtype=like.dtype)
    return flat.reshape(-1, like.shape[1]) if rows is None else flat.reshape(rows, -1)


def _classify(call: Call, x: Tensor) -> tuple[Value, Tensor]:
    rows = cast_to(as_rows(x), torch.float32)
    labels = class_labels(call, "classlabels_ints", "classlabels_strings")
    intercepts = list(call.attr("intercepts", []))
    weight = _weights(call.attr("coefficients"), len(intercepts) or None, rows)
    bias = torch.tensor(intercepts, dtype=rows.dtype) if intercepts else None
    scores = F.linear(rows, weight, bias)
    if weight.shape[0] > 1:
        return labelled(call, torch.argmax(scores, dim=1), labels), transform(call, scores)
    index = cast_to(scores.squeeze(1) > 0, torch.int64)
    if labels is None or len(labels) != 2:
        return labelled(call, index, None), transform(call, scores)
    return labelled(call, index, labels), _second(call, scores)


def _second(call: Call, scores: Tensor) -> Tensor:
    """One score becomes two as ONNX Runtime does it: the transform first, then 1 - score."""
    name = transform_name(call)
    if name in ("LOGISTIC", "NONE"):
        return complement(call, torch.sigmoid(scores) if name == "LOGISTIC" else scores)
    return complement(call, scores)


def _regress(call: Call, x: Tensor) -> Tensor:
    rows = cast_to(as_rows(x), torch.float32)
    targets = int(call.attr("targets", 1))
    weight = _weights(call.attr("coefficients"), targets, rows)
    intercepts = list(call.attr("intercepts", []))
    bias = torch.tensor(intercepts, dtype=rows.dtype) if intercepts else None
    return transform(call, F.linear(rows, weight, bias))


DOMAIN_OPS: Mapping[tuple[str, str], Op] = {
    (ML, "LinearClassifier"): Op(run=_classify),
    (ML, "LinearRegressor"): Op(run=_regress),
}
