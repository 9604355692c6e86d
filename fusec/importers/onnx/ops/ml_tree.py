"""Tree ensembles of ai.onnx.ml, old and new spelling, as whole-tensor steps from root to leaf.

All rows and all trees advance together, one level per step; a leaf points at itself. The number of
steps is the depth of the deepest tree, so that the graph has no branch that depends on data.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
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
    two_classes,
)
from fusec.importers.onnx.ops.support import cast_to
from fusec.importers.onnx.table import Op
from fusec.importers.onnx.values import Array, Value

_MODES = ("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ")
_MEMBER, _LEAF = 6, 7
_POST = ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT")
_AGGREGATE = ("AVERAGE", "SUM", "MIN", "MAX")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Forest:
    """All nodes of all trees, numbered through; leaves lead to themselves.

    Attributes:
        feature: [K] feature compared.
        value: [K] threshold.
        mode: [K] index into the modes; leaves have their own.
        yes: [K] next node where the comparison holds.
        no: [K] next node otherwise.
        missing: [K] whether NaN takes the `yes` way.
        roots: [T] first node of each tree.
        weights: [K, C] what a leaf adds to each target.
        present: [K, C] whether a leaf says something about the target.
        members: [K, M] values of set membership nodes, padded with NaN; None if there are none.
    """

    feature: Array
    value: Array
    mode: Array
    yes: Array
    no: Array
    missing: Array
    roots: Array
    weights: Array
    present: Array
    members: Array | None = None

    def depth(self) -> int:
        """Count the steps to the deepest leaf."""
        level, steps = set(self.roots.tolist()), 0
        seen: set[int] = set()
        while True:
            inner = {n for n in level if self.mode[n] != _LEAF}
            if not inner:
                return steps
            if inner <= seen:
                raise ValueError("the tree's nodes form a cycle")
            seen |= inner
            level = {int(t) for n in inner for t in (self.yes[n], self.no[n])}
            steps += 1


def leaves(forest: Forest, x: Tensor) -> Tensor:
    """Return the leaf that each row of x [N, F] reaches in each tree: [N, T] node numbers."""
    at = torch.from_numpy(forest.roots).expand(x.shape[0], len(forest.roots))
    feature, yes, no = (torch.from_numpy(a) for a in (forest.feature, forest.yes, forest.no))
    mode, missing = torch.from_numpy(forest.mode), torch.from_numpy(forest.missing)
    value = cast_to(torch.from_numpy(forest.value), x.dtype)
    members = None if forest.members is None else cast_to(torch.from_numpy(forest.members), x.dtype)
    used = sorted({int(m) for m in forest.mode} - {_LEAF})
    for _ in range(forest.depth()):
        seen = torch.gather(x, 1, feature[at])
        holds = _compare(used, mode[at], seen, value[at], None if members is None else members[at])
        if forest.missing.any():
            holds = holds | (missing[at] & torch.isnan(seen))
        at = torch.where(holds, yes[at], no[at])
    return at


def _compare(
    used: Sequence[int], mode: Tensor, seen: Tensor, value: Tensor, members: Tensor | None
) -> Tensor:
    compare = (torch.le, torch.lt, torch.ge, torch.gt, torch.eq, torch.ne)
    holds = torch.zeros_like(seen, dtype=torch.bool)
    for number in used:
        if number == _MEMBER:
            assert members is not None
            this = (members == seen.unsqueeze(-1)).any(dim=-1)
        else:
            this = compare[number](seen, value)
        holds = this if len(used) == 1 else torch.where(mode == number, this, holds)
    return holds


def aggregate(call: Call, forest: Forest, at: Tensor, how: str, base: Tensor | None) -> Tensor:
    """Combine the leaves [N, T] into scores [N, C]."""
    weights = torch.from_numpy(forest.weights)
    told = weights[at]
    if how in ("SUM", "AVERAGE"):
        scores = told.sum(dim=1)
        scores = scores / len(forest.roots) if how == "AVERAGE" else scores
    elif how in ("MIN", "MAX"):
        present = torch.from_numpy(forest.present)[at]
        never = torch.inf if how == "MIN" else -torch.inf
        scores = torch.where(present, told, torch.full_like(told, never))
        scores = scores.amin(dim=1) if how == "MIN" else scores.amax(dim=1)
        scores = torch.where(present.any(dim=1), scores, torch.zeros_like(scores))
    else:
        call.fail(f"aggregate_function is {how!r}, want one of {_AGGREGATE}")
    return scores if base is None else scores + base


def _values(call: Call, name: str, dtype: np.dtype[Any]) -> Array | None:
    """Read a list attribute or its `_as_tensor` twin."""
    tensor = call.attr(f"{name}_as_tensor", None)
    values = call.attr(name, None) if tensor is None else tensor
    return None if values is None or len(values) == 0 else np.asarray(values, dtype=dtype)


def _old_forest(call: Call, role: str, ids: str, count: int, dtype: np.dtype[Any]) -> Forest:
    """Read TreeEnsembleClassifier (role "class") or TreeEnsembleRegressor (role "target")."""
    trees, numbers = list(call.attr("nodes_treeids")), list(call.attr("nodes_nodeids"))
    place = {key: i for i, key in enumerate(zip(trees, numbers, strict=True))}
    names = list(call.attr("nodes_modes"))
    mode = np.array([_LEAF if m == "LEAF" else _MODES.index(m) for m in names], np.int64)
    own = np.arange(len(trees))

    def next_nodes(name: str) -> Array:
        targets = [(t, n) for t, n in zip(trees, call.attr(name), strict=True)]
        found = [own[i] if mode[i] == _LEAF else place[key] for i, key in enumerate(targets)]
        return np.array(found, dtype=np.int64)

    yes, no = next_nodes("nodes_truenodeids"), next_nodes("nodes_falsenodeids")
    inner = mode != _LEAF
    children = set(yes[inner].tolist()) | set(no[inner].tolist())
    weights, present = np.zeros((len(trees), count), dtype), np.zeros((len(trees), count), bool)
    told = _values(call, f"{role}_weights", dtype)
    keys = zip(call.attr(f"{role}_treeids"), call.attr(f"{role}_nodeids"), strict=True)
    for key, target, weight in zip(keys, call.attr(ids), [] if told is None else told, strict=True):
        weights[place[key], target] += weight
        present[place[key], target] = True
    value = _values(call, "nodes_values", dtype)
    missing = call.attr("nodes_missing_value_tracks_true", None) or [0] * len(trees)
    return Forest(
        feature=np.where(inner, np.array(call.attr("nodes_featureids"), np.int64), 0),
        value=np.zeros(len(trees), dtype) if value is None else value,
        mode=mode,
        yes=yes,
        no=no,
        missing=np.array(missing, dtype=bool) & inner,
        roots=np.array([i for i in own if i not in children], dtype=np.int64),
        weights=weights,
        present=present,
    )


def _dtype_of(call: Call, x: Tensor) -> np.dtype[Any]:
    doubles = call.attr("nodes_values_as_tensor", None)
    if doubles is not None:
        return np.asarray(doubles).dtype
    return np.dtype(np.float32)


def _base(call: Call, dtype: np.dtype[Any]) -> Tensor | None:
    values = _values(call, "base_values", dtype)
    return None if values is None else torch.from_numpy(values)


def _regress(call: Call, x: Tensor) -> Tensor:
    rows, dtype = as_rows(x), _dtype_of(call, x)
    count = int(call.attr("n_targets", 1))
    forest = _old_forest(call, "target", "target_ids", count, dtype)
    how = str(call.attr("aggregate_function", "SUM"))
    scores = aggregate(call, forest, leaves(forest, rows), how, _base(call, dtype))
    return cast_to(transform(call, scores), torch.float32)


def _classify(call: Call, x: Tensor) -> tuple[Value, Tensor]:
    rows, dtype = as_rows(x), _dtype_of(call, x)
    labels = class_labels(call, "classlabels_int64s", "classlabels_strings")
    if labels is None:
        call.fail("the node has no class labels")
    forest = _old_forest(call, "class", "class_ids", len(labels), dtype)
    base = _base(call, dtype)
    at = leaves(forest, rows)
    single = len(labels) == 2 and len(set(call.attr("class_ids"))) == 1
    if single:
        return _two_way(call, forest, at, base, labels)
    if base is not None and len(base) < len(labels):
        base = torch.nn.functional.pad(base, (0, len(labels) - len(base)))
    scores = aggregate(call, forest, at, "SUM", base)
    told = torch.from_numpy(forest.present)[at].any(dim=1)
    if len(labels) == 2:
        # ONNX Runtime looks at the sign of the second class here, not at the greater score.
        index = cast_to(torch.where(told[:, 1], scores[:, 1] > 0, scores[:, 0] > 0), torch.int64)
    else:
        index = torch.argmax(torch.where(told, scores, -torch.inf), dim=1)
    return labelled(call, index, labels), cast_to(transform(call, scores), torch.float32)


def _two_way(
    call: Call, forest: Forest, at: Tensor, base: Tensor | None, labels: Array
) -> tuple[Value, Tensor]:
    """Two labels whose leaves speak of one class only, as ONNX Runtime reads it."""
    column = int(next(iter(call.attr("class_ids"))))
    score = aggregate(call, forest, at, "SUM", None)[:, column : column + 1]
    if base is not None:
        score = score + base[-1]
    positive = bool((forest.weights >= 0).all())
    index = cast_to(score.squeeze(1) > (0.5 if positive else 0.0), torch.int64)
    if column == 1:
        first = torch.zeros_like(score) if base is None or len(base) == 1 else base[0]
        both = transform(call, torch.cat([first.expand_as(score), score], dim=1))
    elif base is not None and len(base) == 2:
        both = transform(call, torch.cat([-score, score], dim=1))
    elif positive and transform_name(call) != "LOGISTIC":
        both = complement(call, score)
    else:
        both = two_classes(call, score)
    return labelled(call, index, labels), cast_to(both, torch.float32)


def _new_forest(call: Call, dtype: np.dtype[Any]) -> Forest:
    """Read TreeEnsemble of ai.onnx.ml 5; leaves are numbered after the inner nodes."""
    feature = np.array(call.attr("nodes_featureids"), np.int64)
    inner, targets = len(feature), np.array(call.attr("leaf_targetids"), np.int64)
    count, total = int(call.attr("n_targets", 1)), inner + len(targets)

    def next_nodes(side: str) -> Array:
        ids = np.array(call.attr(f"nodes_{side}nodeids"), np.int64)
        leaf = np.array(call.attr(f"nodes_{side}leafs"), bool)
        return np.concatenate([ids + np.where(leaf, inner, 0), np.arange(inner, total)])

    def padded(values: Any, kind: Any) -> Array:
        return np.concatenate([np.asarray(values), np.zeros(len(targets))]).astype(kind)

    mode = np.concatenate([np.array(call.attr("nodes_modes"), np.int64), np.full(len(targets), 7)])
    weights, present = np.zeros((total, count), dtype), np.zeros((total, count), bool)
    weights[np.arange(inner, total), targets] = np.asarray(call.attr("leaf_weights"), dtype)
    present[np.arange(inner, total), targets] = True
    missing = call.attr("nodes_missing_value_tracks_true", None) or [0] * inner
    return Forest(
        feature=padded(feature, np.int64),
        # What a membership node gives as its split is not looked at, and usually a NaN.
        value=np.where(mode == _MEMBER, 0, padded(call.attr("nodes_splits"), dtype)),
        mode=mode,
        yes=next_nodes("true"),
        no=next_nodes("false"),
        missing=padded(missing, bool),
        roots=np.array(call.attr("tree_roots"), np.int64),
        weights=weights,
        present=present,
        members=_members(call, mode),
    )


def _members(call: Call, mode: Array) -> Array | None:
    """Split membership_values at its NaNs, one set per membership node in node order."""
    given = call.attr("membership_values", None)
    nodes = np.flatnonzero(mode == _MEMBER)
    if len(nodes) == 0:
        return None
    values = np.asarray([] if given is None else given)
    ends = np.flatnonzero(np.isnan(values))
    if len(ends) != len(nodes):
        call.fail(f"{len(nodes)} membership nodes but {len(ends)} sets of membership values")
    sets = np.split(values, ends)[: len(nodes)]
    sets = [s[~np.isnan(s)] for s in sets]
    # Rows are filled with a member of their own; only what equals nothing needs a NaN.
    out = np.zeros((len(mode), max(1, *(len(s) for s in sets))))
    for node, members in zip(nodes, sets, strict=True):
        out[node] = members[-1] if len(members) else np.nan
        out[node, : len(members)] = members
    return out


def _ensemble(call: Call, x: Tensor) -> Tensor:
    dtype = np.asarray(call.attr("nodes_splits")).dtype
    forest = _new_forest(call, dtype)
    how = _AGGREGATE[int(call.attr("aggregate_function", 1))]
    scores = aggregate(call, forest, leaves(forest, as_rows(x)), how, None)
    post = dataclasses.replace(
        call, attributes={"post_transform": _POST[int(call.attr("post_transform", 0))]}
    )
    return cast_to(transform(post, scores), x.dtype)


DOMAIN_OPS: Mapping[tuple[str, str], Op] = {
    (ML, "TreeEnsemble"): Op(run=_ensemble),
    (ML, "TreeEnsembleClassifier"): Op(run=_classify),
    (ML, "TreeEnsembleRegressor"): Op(run=_regress),
}
