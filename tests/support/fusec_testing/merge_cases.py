"""Operator calls that every merge rule is tested on: operator name -> cases."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

B = -1
"""Stands for an extent of 2, and of 0 in the test of empty tensors."""

F32, I64, BOOL, C64 = torch.float32, torch.int64, torch.bool, torch.complex64


@dataclass(frozen=True)
class T:
    """A tensor argument with values drawn evenly from a range."""

    shape: tuple[int, ...]
    dtype: torch.dtype = F32
    low: float = 0.1
    high: float = 0.9


def i(*shape: int, high: int = 4, low: int = 0) -> T:
    """Integers."""
    return T(shape, I64, low, high)


def f(*shape: int) -> T:
    """Floats of both signs."""
    return T(shape, F32, -1.0, 1.0)


@dataclass(frozen=True)
class Case:
    """One call: arguments in order, tensors as T."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any] = field(default_factory=dict)


def c(*args: Any, **kwargs: Any) -> Case:
    """Shorten the tables."""
    return Case(args, kwargs)


def p(*shape: int) -> T:
    """Positive floats: sums of few products that do not cancel."""
    return T(shape)


def h(*shape: int) -> T:
    """Floats of 16 bits."""
    return T(shape, torch.float16, -1.0, 1.0)


X = f(B, 3, 4)

LINEAR = {
    "linear.default": [
        c(f(B, 5), f(3, 5), f(3)), c(f(B, 2, 5), f(3, 5)), c(f(5), f(3, 5), f(3)),
    ],
    "addmm.default": [
        c(f(3), f(B, 5), f(5, 3)), c(f(B, 3), f(B, 5), f(5, 3), beta=0.5, alpha=2),
    ],
    "mm.default": [c(f(B, 5), f(5, 3))],
    "bmm.default": [c(f(B, 2, 5), f(B, 5, 3))],
    "baddbmm.default": [
        c(f(B, 2, 3), f(B, 2, 5), f(B, 5, 3)), c(f(3), f(B, 2, 5), f(B, 5, 3), beta=0.5),
        c(f(1, 1, 3), f(B, 2, 5), f(B, 5, 3)),
    ],
    "matmul.default": [
        c(f(B, 5), f(5, 3)), c(f(5), f(5, 3)), c(f(B, 5), p(5)), c(p(5), p(5)),
        c(f(B, 2, 5), f(5, 3)), c(f(B, 2, 5), f(B, 5, 3)), c(f(4, 1, 2, 5), f(3, 5, 2)),
        c(f(2, 5), f(3, 5, 2)), c(f(5), f(3, 5, 2)), c(f(3, 2, 5), f(5)),
    ],
    "mv.default": [c(f(B, 5), f(5))],
    "dot.default": [c(p(5), p(5))],
    "outer.default": [c(f(B), f(5))],
    "einsum.default": [
        c("bij,jk->bik", [f(B, 2, 5), f(5, 3)]), c("ij,jk", [f(2, 5), f(5, 3)]),
        c("...i,ij->...j", [f(B, 5), f(5, 3)]), c("ii->i", [f(3, 3)]), c("i,i->", [p(3), p(3)]),
    ],
}  # fmt: skip

ROW, STAT = f(3), T((3,), F32, 0.5, 1.5)

NORM = {
    "layer_norm.default": [
        c(X, [4], f(4), f(4)), c(X, [3, 4], f(3, 4)), c(X, [4]), c(X, [4], None, f(4), 1e-3),
        c(h(2, 3, 4), [4], h(4), h(4)),
    ],
    "native_layer_norm.default": [
        c(X, [4], f(4), f(4), 1e-5), c(X, [4], None, None, 1e-5), c(X, [3, 4], f(3, 4), None, 1e-5),
        c(h(2, 4), [4], h(4), h(4), 1e-5),
    ],
    "rms_norm.default": [c(X, [4], f(4)), c(X, [4]), c(X, [3, 4], f(3, 4), 1e-3),
                         c(h(2, 3, 4), [4], h(4))],
    "batch_norm.default": [
        c(f(B, 3, 4), ROW, ROW, ROW, STAT, False, 0.1, 1e-5, False),
        c(f(B, 3), None, None, ROW, STAT, False, 0.1, 1e-3, False),
        c(f(2, 3, 2, 2), ROW, None, ROW, STAT, False, 0.1, 1e-5, False),
    ],
    "_native_batch_norm_legit_no_training.default": [
        c(f(2, 3, 4), ROW, ROW, ROW, STAT, 0.1, 1e-5),
        c(f(2, 3, 4), None, None, ROW, STAT, 0.1, 1e-5),
    ],
    "native_batch_norm.default": [c(f(2, 3, 4), ROW, ROW, ROW, STAT, False, 0.1, 1e-5)],
    "instance_norm.default": [
        c(f(2, 3, 6), ROW, ROW, None, None, True, 0.1, 1e-5, False),
        c(f(2, 3, 6), None, None, None, None, True, 0.1, 1e-5, False),
        c(f(2, 3, 6), ROW, ROW, ROW, STAT, False, 0.1, 1e-5, False),
    ],
    "group_norm.default": [
        c(f(2, 4, 5), 2, f(4), f(4)), c(f(2, 4, 3, 3), 4), c(f(2, 4), 2, f(4), None, 1e-3),
    ],
    "native_group_norm.default": [
        c(f(2, 4, 5), f(4), f(4), 2, 4, 5, 2, 1e-5), c(f(2, 4, 5), None, None, 2, 4, 5, 2, 1e-5),
    ],
}  # fmt: skip

IMAGE2 = f(1, 4, 6, 5)

CONV = {
    "conv1d.default": [
        c(f(1, 4, 7), f(6, 4, 3), f(6)), c(f(2, 4, 7), f(6, 2, 3), None, [2], [1], [1], 2),
        c(f(4, 7), f(6, 4, 1)),
    ],
    "conv2d.default": [
        c(IMAGE2, f(6, 4, 3, 3), f(6)), c(IMAGE2, f(6, 4, 1, 1)),
        c(f(2, 4, 6, 5), f(4, 1, 3, 3), f(4), [2, 1], [1, 1], [1, 2], 4),
        c(f(4, 6, 5), f(6, 4, 3, 3), f(6), [2, 2], [1, 0]),
    ],
    "conv3d.default": [c(f(1, 2, 3, 4, 4), f(3, 2, 2, 2, 2), f(3))],
    "conv1d.padding": [c(f(1, 4, 7), f(6, 4, 3), f(6), [1], "same")],
    "conv2d.padding": [c(IMAGE2, f(6, 4, 3, 3), f(6), [1, 1], "same")],
    "conv3d.padding": [c(f(1, 2, 3, 4, 4), f(3, 2, 2, 2, 2), f(3), [1, 1, 1], "valid")],
    "conv_transpose1d.default": [
        c(f(1, 4, 5), f(4, 3, 3), f(3)), c(f(1, 4, 5), f(4, 3, 3), None, [2], [1], [1], 2),
    ],
    "conv_transpose2d.input": [
        c(f(2, 4, 3, 3), f(4, 3, 2, 2), f(3), [2, 2]), c(f(4, 3, 3), f(4, 3, 2, 2)),
    ],
    "conv_transpose3d.input": [c(f(1, 2, 2, 3, 3), f(2, 3, 2, 2, 2), f(3))],
    "convolution.default": [
        c(IMAGE2, f(6, 4, 3, 3), f(6), [1, 1], [1, 1], [1, 1], False, [0, 0], 1),
        c(IMAGE2, f(4, 3, 2, 2), None, [2, 2], [0, 0], [1, 1], True, [1, 1], 2),
    ],
}  # fmt: skip

ATTENTION = {
    "scaled_dot_product_attention.default": [
        c(f(B, 2, 3, 4), f(B, 2, 5, 4), f(B, 2, 5, 4)),
        c(f(2, 2, 3, 4), f(2, 2, 5, 4), f(2, 2, 5, 4), f(2, 1, 3, 5)),
        c(f(2, 2, 3, 4), f(2, 2, 5, 4), f(2, 2, 5, 4), f(1, 1, 3, 5)),
        c(f(1, 2, 3, 4), f(1, 2, 5, 4), f(1, 2, 5, 4), f(3, 5)),
        c(f(2, 2, 3, 4), f(2, 2, 3, 4), f(2, 2, 3, 4), None, 0.0, True, scale=0.3),
        c(f(2, 3, 4), f(2, 5, 4), f(2, 5, 4), T((2, 3, 5), BOOL, 0.2, 1)),
        c(f(3, 4), f(5, 4), f(5, 4), f(3, 5)),
        c(f(2, 4, 3, 4), f(2, 2, 3, 4), f(2, 2, 3, 4), None, 0.0, False, enable_gqa=True),
    ],
}  # fmt: skip


def _pools() -> dict[str, list[Case]]:
    extents = {1: (6,), 2: (6, 4), 3: (4, 4, 4)}
    table: dict[str, list[Case]] = {}
    for n, places in extents.items():
        batch, single = f(2, 3, *places), f(3, *places)
        both = (batch, single)
        table[f"avg_pool{n}d.default"] = [c(x, [2] * n) for x in both]
        table[f"max_pool{n}d.default"] = [c(x, [2] * n, [1] * n) for x in both]
        table[f"adaptive_avg_pool{n}d.default"] = [c(x, [2] * n) for x in both]
        table[f"adaptive_max_pool{n}d.default"] = [c(x, [2] * n) for x in both]
        for exact in ("upsample_nearest", "_upsample_nearest_exact"):
            table[f"{exact}{n}d.default"] = [c(batch, [5] * n)]
            table[f"{exact}{n}d.vec"] = [c(batch, None, [2.0] * n)]
    for n in (2, 3):
        x = f(2, 3, *extents[n])
        table[f"max_pool{n}d_with_indices.default"] = [c(x, [2] * n), c(f(3, *extents[n]), [2] * n)]
        table[f"_adaptive_avg_pool{n}d.default"] = [c(x, [2] * n)]
        count = 2**n
        flat = T((2, 1, *[2] * n), I64, 0, count)
        table[f"max_unpool{n}d.default"] = [
            c(f(2, 1, *[2] * n), flat, [4] * n, *([] if n == 2 else [[2] * n, [0] * n])),
            c(f(1, *[2] * n), T((1, *[2] * n), I64, 0, 1), [4] * n,
              *([] if n == 2 else [[2] * n, [0] * n])),
        ]  # fmt: skip
    smooth = {"upsample_linear": 1, "upsample_bilinear": 2, "upsample_bicubic": 2}
    for name, n in {**smooth, "upsample_trilinear": 3}.items():
        x = f(2, 3, *extents[n])
        table[f"{name}{n}d.default"] = [c(x, [5] * n, True)]
        table[f"{name}{n}d.vec"] = [c(x, None, False, [2.0] * n)]
    return table


POOL = {
    **_pools(),
    "grid_sampler.default": [c(f(2, 3, 4, 4), f(2, 5, 5, 2), 0, 0, False)],
    "grid_sampler_2d.default": [c(f(2, 3, 4, 4), f(2, 5, 5, 2), 0, 1, True)],
    "grid_sampler_3d.default": [c(f(2, 3, 3, 4, 4), f(2, 2, 2, 2, 3), 0, 0, False)],
    "im2col.default": [
        c(f(2, 3, 4, 4), [2, 2], [1, 1], [0, 0], [1, 1]),
        c(f(3, 4, 4), [2, 2], [1, 1], [0, 0], [1, 1]),
    ],
    "col2im.default": [
        c(f(2, 12, 9), [4, 4], [2, 2], [1, 1], [0, 0], [1, 1]),
        c(f(12, 9), [4, 4], [2, 2], [1, 1], [0, 0], [1, 1]),
    ],
    "affine_grid_generator.default": [c(f(2, 2, 3), [2, 1, 3, 4], False)],
}

RECURRENT = {
    "fusec.rnn.default": [
        c(f(1, 2, 3), f(16, 3), f(16, 4), f(2, 16), f(2, 4), f(2, 4), None, None, mode="lstm",
          activations=[]),
        c(f(2, 2, 3), f(12, 3), f(12, 4), f(2, 12), f(2, 4), None, None, None, mode="gru",
          reverse=True, activations=[]),
        c(f(2, 2, 3), f(4, 3), f(4, 4), None, f(2, 4), None, None, None, mode="rnn",
          activations=["relu"]),
        c(f(5, 2, 3), f(16, 3), f(16, 4), f(2, 16), f(2, 4), f(2, 4), f(12), i(2, low=1, high=5),
          mode="lstm",
          activations=[]),
        c(f(2, 2, 3), f(12, 3), f(12, 4), f(2, 12), f(2, 4), None, None, None, mode="gru",
          reset_after=False, activations=[]),
    ],
}  # fmt: skip

OTHER: Mapping[str, list[Case]] = {
    **LINEAR, **NORM, **CONV, **ATTENTION, **POOL, **RECURRENT,
}  # fmt: skip
"""Families whose cases are written out here; see also the files beside this one."""
