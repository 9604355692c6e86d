"""Losses: negative log-likelihood and softmax cross-entropy."""

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor

from fusec.importers.onnx.call import Call
from fusec.importers.onnx.table import Op

# Any value that cannot be a class: ONNX ignores nothing when the attribute is absent.
_IGNORE_NONE = -(2**31)


def _nll(call: Call, log_prob: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
    ignore = int(call.attr("ignore_index", _IGNORE_NONE))
    reduction = str(call.attr("reduction", "mean"))
    # Half precision has no NLL kernel on every device; the sum is short, compute it in float32.
    wide = log_prob if log_prob.element_size() >= 4 else log_prob.float()
    scale = None if weight is None else weight.to(wide.dtype)
    target = target.long()
    lone = wide.dim() == 1
    if lone:
        wide, target = wide.unsqueeze(0), target.reshape(1)
    loss = F.nll_loss(wide, target, scale, ignore_index=ignore, reduction=reduction)
    return (loss.squeeze(0) if lone and reduction == "none" else loss).to(log_prob.dtype)


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
