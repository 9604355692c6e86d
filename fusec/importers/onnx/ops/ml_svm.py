"""Support vector machines of ai.onnx.ml."""

from collections.abc import Mapping
from itertools import combinations, pairwise

import numpy as np
import torch
from torch import Tensor

import fusec.kernels.coupling.op  # noqa: F401  (defines torch.ops.fusec.pairwise_coupling)
from fusec.importers.onnx.call import Call
from fusec.importers.onnx.ops.ml_scores import (
    ML,
    as_rows,
    class_labels,
    labelled,
    transform,
    two_classes,
)
from fusec.importers.onnx.ops.support import cast_to
from fusec.importers.onnx.table import Op
from fusec.importers.onnx.values import Value


def _numbers(call: Call, name: str) -> Tensor:
    return torch.tensor(list(call.attr(name, []) or []), dtype=torch.float32)


def _kernel(call: Call, x: Tensor, vectors: Tensor, kind: str) -> Tensor:
    """Return the kernel of each row of x [N, F] with each vector [S, F]: [N, S]."""
    gamma, offset, degree = (list(call.attr("kernel_params", []) or []) + [0.0] * 3)[:3]
    if kind == "RBF":
        gap = x.unsqueeze(1) - vectors
        return torch.exp(-gamma * (gap * gap).sum(dim=-1))
    product = x @ vectors.t()
    if kind == "LINEAR":
        return product
    if kind == "POLY":
        return torch.pow(gamma * product + offset, degree)
    if kind == "SIGMOID":
        return torch.tanh(gamma * product + offset)
    call.fail(f"kernel_type is {kind!r}, want LINEAR, POLY, RBF or SIGMOID")


def _regress(call: Call, x: Tensor) -> Tensor:
    rows, count = cast_to(as_rows(x), torch.float32), int(call.attr("n_supports", 0))
    coefficients, rho = _numbers(call, "coefficients"), _numbers(call, "rho")
    if count > 0:
        vectors = _numbers(call, "support_vectors").reshape(count, -1)
        kernel = _kernel(call, rows, vectors, str(call.attr("kernel_type", "LINEAR")))
        scores = kernel @ coefficients.reshape(-1, 1) + rho[0]
    else:
        weight = coefficients.reshape(1, -1)
        scores = _kernel(call, rows, weight, str(call.attr("kernel_type", "LINEAR"))) + rho[0]
    if call.attr("one_class", 0):
        return torch.where(scores > 0, 1.0, -1.0)
    return transform(call, scores)


def _pair_scores(call: Call, rows: Tensor, sizes: list[int]) -> tuple[Tensor, Tensor]:
    """Return the scores of all pairs of classes [N, P] and each class's votes [N, C]."""
    total, rho = sum(sizes), _numbers(call, "rho")
    vectors = _numbers(call, "support_vectors").reshape(total, -1)
    kernel = _kernel(call, rows, vectors, str(call.attr("kernel_type", "LINEAR")))
    weight = _numbers(call, "coefficients").reshape(-1, total)
    spans = list(pairwise(np.cumsum([0, *sizes]).tolist()))
    scores, votes = [], [torch.zeros_like(rows[:, 0]) for _ in sizes]
    for number, (i, j) in enumerate(combinations(range(len(sizes)), 2)):
        (a, b), (c, d) = spans[i], spans[j]
        score = kernel[:, a:b] @ weight[j - 1, a:b] + kernel[:, c:d] @ weight[i, c:d] + rho[number]
        won = cast_to(score > 0, score.dtype)
        votes[i], votes[j] = votes[i] + won, votes[j] + 1 - won
        scores.append(score)
    return torch.stack(scores, dim=1), torch.stack(votes, dim=1)


def _probabilities(call: Call, scores: Tensor, count: int) -> Tensor:
    """Turn pair scores [N, P] into class probabilities [N, C] by pairwise coupling."""
    slope, shift = _numbers(call, "prob_a"), _numbers(call, "prob_b")
    chance = torch.clamp(1 - torch.sigmoid(scores * slope + shift), 1e-7, 1 - 1e-7)
    pairs = {ij: chance[:, p] for p, ij in enumerate(combinations(range(count), 2))}
    zero = torch.zeros_like(scores[:, 0])

    def beats(i: int, j: int) -> Tensor:
        return zero if i == j else pairs[i, j] if i < j else 1 - pairs[j, i]

    table = torch.stack(
        [torch.stack([beats(i, j) for j in range(count)], dim=1) for i in range(count)], dim=1
    )
    coupled: Tensor = torch.ops.fusec.pairwise_coupling(table)
    return coupled


def _classify(call: Call, x: Tensor) -> tuple[Value, Tensor]:
    rows = cast_to(as_rows(x), torch.float32)
    labels = class_labels(call, "classlabels_ints", "classlabels_strings")
    count = 1 if labels is None else len(labels)
    sizes = [int(v) for v in call.attr("vectors_per_class", []) or []]
    if not sizes:
        weight = _numbers(call, "coefficients").reshape(count, -1)
        scores = _kernel(call, rows, weight, "LINEAR") + _numbers(call, "rho")[0]
        index, best = torch.argmax(scores, dim=1), scores.amax(dim=1)
        if count == 2 and len(call.attr("rho")) == 1:
            # ONNX Runtime takes the second class here as soon as any score is positive.
            least = 0.5 if min(call.attr("coefficients")) >= 0 else 0.0
            index = torch.where(best > least, 1, index)
        return _finish(call, scores, index, best, labels)
    scores, votes = _pair_scores(call, rows, sizes)
    if len(call.attr("prob_a", []) or []):
        chance = _probabilities(call, scores, len(sizes))
        # The label goes by votes even where the probabilities say otherwise, as in libsvm.
        index = torch.argmax(votes, dim=1)
        return labelled(call, index, labels), transform(call, chance)
    return _finish(call, scores, torch.argmax(votes, dim=1), votes.amax(dim=1), labels)


def _finish(
    call: Call, scores: Tensor, index: Tensor, best: Tensor, labels: object
) -> tuple[Value, Tensor]:
    known = labels if isinstance(labels, np.ndarray) else None
    if scores.shape[1] == 1 and known is not None and len(known) == 2:
        return labelled(call, index, known), two_classes(call, scores)
    if scores.shape[1] == 1:
        index = cast_to(best > 0, torch.int64)
        return labelled(call, index, None), transform(call, scores)
    return labelled(call, index, known), transform(call, scores)


DOMAIN_OPS: Mapping[tuple[str, str], Op] = {
    (ML, "SVMClassifier"): Op(run=_classify),
    (ML, "SVMRegressor"): Op(run=_regress),
}
