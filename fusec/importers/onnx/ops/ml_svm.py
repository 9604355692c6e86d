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
from fusec.importers.onnx.values import Array, Value

_REGRESSOR = ("coefficients", "rho", "support_vectors")
_CLASSIFIER = ("coefficients", "rho", "support_vectors", "prob_a", "prob_b")


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


def _regress(
    call: Call, x: Tensor, coefficients: Tensor, rho: Tensor, vectors: Tensor | None = None
) -> Tensor:
    rows, count = cast_to(as_rows(x), torch.float32), int(call.attr("n_supports", 0))
    kind = str(call.attr("kernel_type", "LINEAR"))
    if count > 0 and vectors is not None:
        kernel = _kernel(call, rows, vectors.reshape(count, -1), kind)
        scores = kernel @ coefficients.reshape(-1, 1) + rho[0]
    else:
        scores = _kernel(call, rows, coefficients.reshape(1, -1), kind) + rho[0]
    if call.attr("one_class", 0):
        return torch.where(scores > 0, 1.0, -1.0)
    return transform(call, scores)


def _pair_scores(
    kernel: Tensor, coefficients: Tensor, rho: Tensor, sizes: list[int]
) -> tuple[Tensor, Tensor]:
    """Return the scores of all pairs of classes [N, P] and each class's votes [N, C].

    Args:
        kernel: [N, S] of rows with support vectors, the classes' vectors one after the other.
        coefficients: [(C - 1) * S].
        rho: [P].
        sizes: number of support vectors of each class.
    """
    weight = coefficients.reshape(-1, sum(sizes))
    spans = list(pairwise(np.cumsum([0, *sizes]).tolist()))
    scores, votes = [], [torch.zeros_like(kernel[:, 0]) for _ in sizes]
    for number, (i, j) in enumerate(combinations(range(len(sizes)), 2)):
        (a, b), (c, d) = spans[i], spans[j]
        score = kernel[:, a:b] @ weight[j - 1, a:b] + kernel[:, c:d] @ weight[i, c:d] + rho[number]
        won = cast_to(score > 0, score.dtype)
        votes[i], votes[j] = votes[i] + won, votes[j] + 1 - won
        scores.append(score)
    return torch.stack(scores, dim=1), torch.stack(votes, dim=1)


def _probabilities(scores: Tensor, slope: Tensor, shift: Tensor, count: int) -> Tensor:
    """Turn pair scores [N, P] into class probabilities [N, C] by pairwise coupling."""
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


def _classify(
    call: Call,
    x: Tensor,
    coefficients: Tensor,
    rho: Tensor,
    vectors: Tensor | None = None,
    slope: Tensor | None = None,
    shift: Tensor | None = None,
) -> tuple[Value, Tensor]:
    rows = cast_to(as_rows(x), torch.float32)
    labels = class_labels(call, "classlabels_ints", "classlabels_strings")
    sizes = [int(v) for v in call.attr("vectors_per_class", []) or []]
    if not sizes or vectors is None:
        return _linear(call, rows, coefficients, rho, labels)
    kind = str(call.attr("kernel_type", "LINEAR"))
    kernel = _kernel(call, rows, vectors.reshape(sum(sizes), -1), kind)
    scores, votes = _pair_scores(kernel, coefficients, rho, sizes)
    index = torch.argmax(votes, dim=1)
    if slope is not None and shift is not None:
        # The label goes by votes even where the probabilities say otherwise, as in libsvm.
        chance = _probabilities(scores, slope, shift, len(sizes))
        return labelled(call, index, labels), transform(call, chance)
    return _finish(call, scores, index, votes.amax(dim=1), labels)


def _linear(
    call: Call, rows: Tensor, coefficients: Tensor, rho: Tensor, labels: Array | None
) -> tuple[Value, Tensor]:
    """One hyperplane per class, without support vectors."""
    count = 1 if labels is None else len(labels)
    scores = _kernel(call, rows, coefficients.reshape(count, -1), "LINEAR") + rho[0]
    index, best = torch.argmax(scores, dim=1), scores.amax(dim=1)
    if count == 2 and rho.shape[0] == 1:
        # ONNX Runtime takes the second class here as soon as any score is positive.
        least = torch.where((coefficients >= 0).all(), 0.5, 0.0)
        index = torch.where(best > least, 1, index)
    return _finish(call, scores, index, best, labels)


def _finish(
    call: Call, scores: Tensor, index: Tensor, best: Tensor, labels: Array | None
) -> tuple[Value, Tensor]:
    if scores.shape[1] == 1 and labels is not None and len(labels) == 2:
        return labelled(call, index, labels), two_classes(call, scores)
    if scores.shape[1] == 1:
        index = cast_to(best > 0, torch.int64)
        return labelled(call, index, None), transform(call, scores)
    return labelled(call, index, labels), transform(call, scores)


DOMAIN_OPS: Mapping[tuple[str, str], Op] = {
    (ML, "SVMClassifier"): Op(run=_classify, lifted=_CLASSIFIER),
    (ML, "SVMRegressor"): Op(run=_regress, lifted=_REGRESSOR),
}
