"""Linear models of ai.onnx.ml."""

from collections.abc import Mapping

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

_WEIGHTS = ("coefficients", "intercepts")


def _classify(
    call: Call, x: Tensor, coefficients: Tensor, bias: Tensor | None = None
) -> tuple[Value, Tensor]:
    rows = cast_to(as_rows(x), torch.float32)
    labels = class_labels(call, "classlabels_ints", "classlabels_strings")
    count = coefficients.shape[0] // rows.shape[1] if bias is None else bias.shape[0]
    weight = coefficients.reshape(count, -1)
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


def _regress(call: Call, x: Tensor, coefficients: Tensor, bias: Tensor | None = None) -> Tensor:
    rows = cast_to(as_rows(x), torch.float32)
    weight = coefficients.reshape(int(call.attr("targets", 1)), -1)
    return transform(call, F.linear(rows, weight, bias))


DOMAIN_OPS: Mapping[tuple[str, str], Op] = {
    (ML, "LinearClassifier"): Op(run=_classify, lifted=_WEIGHTS),
    (ML, "LinearRegressor"): Op(run=_regress, lifted=_WEIGHTS),
}
