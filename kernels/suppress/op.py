"""The custom operator `fusec::non_max_suppression`; importing this module registers it with torch.

The number of selected boxes depends on the data, so the result has an extent of its own.
"""

import torch
from torch import Tensor

SCHEMA = (
    "non_max_suppression(Tensor boxes, Tensor scores, Tensor? max_boxes, Tensor? iou_threshold, "
    "Tensor? score_threshold, *, bool center_point_box=False) -> Tensor"
)


def non_max_suppression(
    boxes: Tensor,
    scores: Tensor,
    max_boxes: Tensor | None,
    iou_threshold: Tensor | None,
    score_threshold: Tensor | None,
    *,
    center_point_box: bool = False,
) -> Tensor:
    """Select boxes greedily by score, per batch row and class, as ONNX NonMaxSuppression does.

    Args:
        boxes: [B, N, 4] corners y1, x1, y2, x2 (any diagonal pair), or x, y centre, width, height.
        scores: [B, C, N].
        max_boxes: one integer, the most boxes per row and class; None or 0 selects nothing.
        iou_threshold: one float; an overlap greater than it suppresses. None is 0.
        score_threshold: one float; only greater scores are candidates. None keeps all.
        center_point_box: how `boxes` is spelled.

    Returns:
        [K, 3] int64 of batch row, class, box, by row, then class, then falling score; of equal
        scores the lower box comes first.
    """
    most = 0 if max_boxes is None else int(max_boxes)
    overlap = 0.0 if iou_threshold is None else float(iou_threshold)
    least = None if score_threshold is None else float(score_threshold)
    picked: list[Tensor] = []
    for row in range(boxes.shape[0] if most > 0 else 0):
        corners = _corners(boxes[row], center_point_box)
        for label in range(scores.shape[1]):
            chosen = _greedy(corners, scores[row, label], most, overlap, least)
            head = chosen.new_tensor([row, label]).expand(chosen.shape[0], 2)
            picked.append(torch.cat([head, chosen.unsqueeze(1)], dim=1))
    if not picked:
        return torch.zeros((0, 3), dtype=torch.int64, device=boxes.device)
    return torch.cat(picked)


def _corners(boxes: Tensor, center_point_box: bool) -> Tensor:
    """[N, 4] -> [N, 4] low y, low x, high y, high x."""
    first, second = boxes[:, :2], boxes[:, 2:]
    if center_point_box:
        first, second = first - second / 2, first + second / 2
    return torch.cat([torch.minimum(first, second), torch.maximum(first, second)], dim=1)


def _greedy(
    corners: Tensor, scores: Tensor, most: int, overlap: float, least: float | None
) -> Tensor:
    order = torch.argsort(scores, descending=True, stable=True)
    if least is not None:
        order = order[scores[order] > least]
    chosen: list[Tensor] = []
    while len(chosen) < most and order.numel() > 0:
        best, order = order[:1], order[1:]
        chosen.append(best)
        order = order[_overlap(corners[best], corners[order]) <= overlap]
    return torch.cat(chosen) if chosen else order[:0]


def _overlap(box: Tensor, others: Tensor) -> Tensor:
    """Intersection over union of one box [1, 4] with others [N, 4]; 0 where a box is empty."""
    sides = torch.minimum(box[:, 2:], others[:, 2:]) - torch.maximum(box[:, :2], others[:, :2])
    shared = torch.clamp(sides, min=0).prod(dim=1)
    area = (box[:, 2:] - box[:, :2]).prod(dim=1)
    areas = (others[:, 2:] - others[:, :2]).prod(dim=1)
    union = area + areas - shared
    solid = (area > 0) & (areas > 0) & (union > 0)
    return torch.where(solid, shared / union, torch.zeros_like(shared))


def fake_non_max_suppression(boxes: Tensor, *others: Tensor | None, **attributes: bool) -> Tensor:
    """Give the result's shape for tracing: its first extent is a new symbol."""
    count = torch.library.get_ctx().new_dynamic_size()
    return torch.empty((count, 3), dtype=torch.int64, device=boxes.device)


# The library object keeps the registration alive for as long as this module is loaded.
LIBRARY = torch.library.Library("fusec", "FRAGMENT")  # type: ignore[no-untyped-call]
LIBRARY.define(SCHEMA, tags=(torch.Tag.pt2_compliant_tag,))  # type: ignore[no-untyped-call]
LIBRARY.impl("non_max_suppression", non_max_suppression, "CompositeExplicitAutograd")  # type: ignore[no-untyped-call]
torch.library.register_fake("fusec::non_max_suppression", fake_non_max_suppression, lib=LIBRARY)
