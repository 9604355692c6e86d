"""What the classifiers and regressors of ai.onnx.ml share: score transforms and labels."""

import math
from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from fusec.importers.onnx.call import Call
from fusec.importers.onnx.ops.support import cast_to
from fusec.importers.onnx.values import Array, Value, to_host

ML = "ai.onnx.ml"


def _softmax_zero(x: Tensor) -> Tensor:
    """Softmax in which a score of zero gets no share of its own."""
    top = x.amax(dim=-1, keepdim=True)
    share = torch.where(x.abs() > 1e-7, torch.exp(x - top), x * torch.exp(-top))
    total = share.sum(dim=-1, keepdim=True)
    return torch.where(total == 0, torch.full_like(share, 0.5), share / total)


def _probit(x: Tensor) -> Tensor:
    """Return the quantile of the normal distribution, by the approximation ONNX Runtime uses."""
    value = x * 2 - 1
    log = torch.log((1 - value) * (1 + value))
    first = 2 / (math.pi * 0.147) + 0.5 * log
    root = torch.sqrt(-first + torch.sqrt(first * first - log / 0.147))
    return math.sqrt(2) * torch.where(value < 0, -root, root)


_TRANSFORMS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "NONE": lambda x: x,
    "LOGISTIC": torch.sigmoid,
    "SOFTMAX": lambda x: torch.softmax(x, dim=-1),
    "SOFTMAX_ZERO": _softmax_zero,
    "PROBIT": _probit,
}


def transform_name(call: Call) -> str:
    """Return the node's post_transform, checked."""
    name = str(call.attr("post_transform", "NONE"))
    if name not in _TRANSFORMS:
        call.fail(f"post_transform is {name!r}, want one of {sorted(_TRANSFORMS)}")
    return name


def transform(call: Call, scores: Tensor) -> Tensor:
    """Apply the node's post_transform to scores [N, C]."""
    return _TRANSFORMS[transform_name(call)](scores)


def two_classes(call: Call, score: Tensor) -> Tensor:
    """Turn one signed score [N, 1] into scores [N, 2] of the negative and positive class."""
    name = transform_name(call)
    if name == "PROBIT":
        return _probit(score)
    both = torch.cat([-score, score], dim=-1)
    return torch.sigmoid(both) if name == "LOGISTIC" else both


def complement(call: Call, score: Tensor) -> Tensor:
    """Turn one probability [N, 1] into those of both classes [N, 2]."""
    if transform_name(call) == "PROBIT":
        return _probit(score)
    return torch.cat([1 - score, score], dim=-1)


def class_labels(call: Call, integers: str, strings: str) -> Array | None:
    """Return the node's class labels: int64, an object array of strings, or None."""
    text = call.attr(strings, None)
    if text:
        return np.array(list(text), dtype=object)
    numbers = call.attr(integers, None)
    return np.array(list(numbers), dtype=np.int64) if numbers else None


def labelled(call: Call, index: Tensor, labels: Array | None) -> Value:
    """Replace class indices [N] by the labels; strings only where the data is at hand."""
    if not call.wants(0) or labels is None:
        return cast_to(index, torch.int64)
    if labels.dtype == object:
        return np.asarray(labels[to_host(index)], dtype=object)
    if np.array_equal(labels, np.arange(len(labels))):
        return cast_to(index, torch.int64)
    return torch.from_numpy(labels)[index]


def as_rows(x: Tensor) -> Tensor:
    """Bring the features to float (double stays) and to [N, C]."""
    x = x if x.dtype in (torch.float32, torch.float64) else cast_to(x, torch.float32)
    return x.unsqueeze(0) if x.dim() == 1 else x
