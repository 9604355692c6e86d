"""Losses: negative log-likelihood and softmax cross-entropy."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from fusec.importers.onnx.call import Call
from fusec.importers.onnx.ops.support import cast_to
from fusec.importers.onnx.table import Op


def _nll(call: Call, log_prob: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
    """Pick -log_prob [N, C, ...] at target [N, ...], weigh it, reduce it."""
    reduction, ignore = str(call.attr("reduction", "mean")), call.attr("ignore_index", None)
    # The sums are over all elements: half precision would lose them.
    wide = log_prob if log_prob.element_size() >= 4 else cast_to(log_prob, torch.float32)
    target = cast_to(target, torch.int64)
    ignored = None if ignore is None else target == int(ignore)
    if ignored is not None:
        target = torch.where(ignored, torch.zeros_like(target), target)
    loss = -torch.gather(wide, 1, target.unsqueeze(1)).squeeze(1)
    scale = None if weight is None else cast_to(weight, wide.dtype)[target]
    if ignored is not None:
        scale = torch.ones_like(loss) if scale is None else scale
        scale = torch.where(ignored, torch.zeros_like(scale), scale)
    loss = loss if scale is None else loss * scale
    if reduction == "sum":
        loss = loss.sum()
    elif reduction == "mean":
        loss = loss.mean() if scale is None else loss.sum() / scale.sum()
    elif reduction != "none":
        call.fail(f"reduction is {reduction!r}, want none, sum or mean")
    return cast_to(loss, log_prob.dtype)


def _nll_loss(call: Call, x: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    return _nll(call, x, target, weight)


def _cross_entropy(
    call: Call, scores: Tensor, labels: Tensor, weights: Tensor | None = None
) -> Tensor | tuple[Tensor, Tensor]:
    log_prob = F.log_softmax(scores, dim=1)
    loss = _nll(call, log_prob, labels, weights)
    return (loss, log_prob) if call.n_outputs > 1 else loss


OPS: Mapping[str, Op] = {
    "NegativeLogLikelihoodLoss": Op(run=_nll_loss),
    "SoftmaxCrossEntropyLoss": Op(run=_cross_entropy),
}
