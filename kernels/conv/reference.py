"""The plain convolution: a padded image, one product per tap, float64 sums, rounded once."""

from typing import Any

import numpy as np

from fusec.ir.stage import Stage
from fusec.kernels.conv.encode import numbers
from fusec.kernels.gemm.pack import matrices
from fusec.kernels.memory import Memory
from fusec.kernels.pointwise.reference import apply

__all__ = ["run"]


def run(stage: Stage, memory: Memory) -> None:
    """Compute a convolution stage.

    Args:
        stage: of op `conv`.
        memory: of one instance.
    """
    x = memory.array(stage.reads[0]).astype(np.float64)
    y = memory.array(stage.writes[0])
    bias = memory.array(stage.reads[2]) if len(stage.reads) > 2 else 0.0
    weight = _weight(stage, memory, x.shape[3], y.shape[3])
    with np.errstate(all="ignore"):
        sums = (
            _gathered(stage, x, weight, y.shape[1:3])
            if stage.attr("transposed")
            else _summed(stage, x, weight, y.shape[1:3])
        )
        y[...] = sums + bias
    apply(stage, memory)


def _weight(stage: Stage, memory: Memory, channels: int, columns: int) -> Any:
    """Give the weight as [ky, kx, groups, c, n]."""
    groups, nr = int(str(stage.attr("groups"))), int(str(stage.attr("nr")))
    ky, kx = numbers(stage, "kernel")
    flat = memory.array(stage.reads[1])
    parts, n, c = groups, columns // groups, channels // groups
    if stage.attr("depthwise"):
        parts, n, c = 1, columns, 1
    k = ky * kx * c
    if stage.attr("packed"):
        b = matrices(flat, parts, k, n, nr)
    else:
        b = flat[: parts * k * n].reshape(parts, k, n)
    b = b.reshape(parts, ky, kx, c, n).astype(np.float64)
    if stage.attr("depthwise"):
        return b.transpose(1, 2, 4, 0, 3)
    return b.transpose(1, 2, 0, 3, 4)


def _summed(stage: Stage, x: Any, weight: Any, out: tuple[int, ...]) -> Any:
    (sy, sx), (dy, dx) = numbers(stage, "stride"), numbers(stage, "dilation")
    py, px = numbers(stage, "padding")
    images = x.shape[0]
    ky, kx, groups, c, n = weight.shape
    high = [(o - 1) * s + d * (k - 1) + 1 for o, s, d, k in
            zip(out, (sy, sx), (dy, dx), (ky, kx), strict=True)]  # fmt: skip
    # Padding behind: as much as the last window needs.
    behind = [max(0, h - e - p) for h, e, p in zip(high, x.shape[1:3], (py, px), strict=True)]
    padded = np.pad(x, ((0, 0), (py, behind[0]), (px, behind[1]), (0, 0)))
    total = np.zeros((images, *out, groups, n))
    for i in range(ky):
        for j in range(kx):
            part = padded[:, i * dy :: sy, j * dx :: sx][:, : out[0], : out[1]]
            total += np.einsum(
                "byxgc,gcn->byxgn", part.reshape(images, *out, groups, c), weight[i, j]
            )
    return total.reshape(images, *out, groups * n)


def _gathered(stage: Stage, x: Any, weight: Any, out: tuple[int, ...]) -> Any:
    """Scatter every input pixel's products, then cut the padding off."""
    (sy, sx), (dy, dx) = numbers(stage, "stride"), numbers(stage, "dilation")
    py, px = numbers(stage, "padding")
    images, height, width, _ = x.shape
    ky, kx, groups, c, n = weight.shape
    full = (
        max((height - 1) * sy + dy * (ky - 1) + 1, out[0] + py),
        max((width - 1) * sx + dx * (kx - 1) + 1, out[1] + px),
    )
    total = np.zeros((images, *full, groups, n))
    split = x.reshape(images, height, width, groups, c)
    for i in range(ky):
        for j in range(kx):
            target = total[:, i * dy :, j * dx :][:, : (height - 1) * sy + 1 : sy]
            target = target[:, :, : (width - 1) * sx + 1 : sx]
            target += np.einsum("byxgc,gcn->byxgn", split, weight[i, j])
    cut = total[:, py : py + out[0], px : px + out[1]]
    return cut.reshape(images, *out, groups * n)
