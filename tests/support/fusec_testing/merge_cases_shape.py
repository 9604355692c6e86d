"""Cases of shape, index and reduction operators."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from fusec_testing.merge_cases import BOOL, C64, I64, B, Case, T, X, c, f, i

NONE = f()

SHAPE: Mapping[str, list[Case]] = {
    "view.default": [c(X, [-1, 12]), c(f(2, 3), [6]), c(NONE, [1])],
    "reshape.default": [c(X, [-1, 4]), c(NONE, [1, 1])],
    "_unsafe_view.default": [c(X, [-1, 12])],
    "view_copy.default": [c(X, [-1, 12])],
    "view.dtype": [c(X, torch.int32), c(f(4), torch.int64), c(NONE, torch.int32)],
    "view_copy.dtype": [c(X, torch.int32)],
    "permute.default": [c(X, [2, 0, 1]), c(X, [-1, -3, 1])],
    "transpose.int": [c(X, 0, -1), c(NONE, 0, -1)],
    "swapaxes.default": [c(X, 0, 2)],
    "swapdims.default": [c(X, -1, 1)],
    "t.default": [c(f(B, 3)), c(f(3))],
    "mT.default": [c(X)],
    "numpy_T.default": [c(f(B, 3))],
    "movedim.int": [c(X, 0, -1)],
    "movedim.intlist": [c(X, [0, 1], [-1, 0])],
    "moveaxis.int": [c(X, 0, -1)],
    "moveaxis.intlist": [c(X, [0, 1], [-1, 0])],
    "reshape_as.default": [c(f(2, 6), f(3, 4))],
    "view_as.default": [c(f(2, 6), f(3, 4))],
    "unfold.default": [c(X, 1, 2, 1), c(X, -1, 3, 1)],
    "expand.default": [c(f(3, 1), [2, 3, 4]), c(f(1, 4), [-1, 4]), c(NONE, [2, 3])],
    "broadcast_to.default": [c(f(3, 1), [2, 3, 4])],
    "expand_as.default": [c(f(3, 1), f(B, 3, 4))],
    "repeat.default": [c(f(B, 3), [2, 1, 2])],
    "tile.default": [c(f(B, 3), [2]), c(f(B, 3), [2, 1, 2])],
    "cat.default": [
        c([f(B, 3), f(1, 3)]), c([f(2, 3), f(2, 1)], -1), c([f(0), f(2, 3)]),
        c([f(2, 3), i(2, 3)]),
    ],
    "concat.default": [c([f(B, 3), f(1, 3)], 0)],
    "stack.default": [c([f(B, 3), f(B, 3)], -1), c([NONE, NONE])],
    "slice.Tensor": [c(X, 1, 1, 3), c(X, -1, -3, 9, 2)],
    "select.int": [c(X, 1, -1)],
    "split.Tensor": [c(X, 2, 2)],
    "split.sizes": [c(X, [1, 3], -1)],
    "split_with_sizes.default": [c(X, [1, 2], 1)],
    "chunk.default": [c(X, 2, -1)],
    "unsafe_split.Tensor": [c(X, 2, 2)],
    "unsafe_chunk.default": [c(X, 2, -1)],
    "unbind.int": [c(X, 1)],
    "tensor_split.sections": [c(X, 3, 2)],
    "tensor_split.indices": [c(X, [1, 2], 1)],
    "narrow.default": [c(X, 1, 1, 2)],
    "unflatten.int": [c(X, 2, [2, 2])],
    "glu.default": [c(X, -1)],
    "unsqueeze.default": [c(X, 0), c(X, -1), c(NONE, 0)],
    "squeeze.default": [c(f(1, 3, 1)), c(NONE)],
    "squeeze.dim": [c(f(1, 3, 1), 0), c(f(1, 3, 1), 1), c(NONE, 0)],
    "squeeze.dims": [c(f(1, 3, 1), [0, -1])],
    "flatten.using_ints": [c(X), c(X, 1, -1), c(NONE)],
    "ravel.default": [c(X), c(NONE)],
    "atleast_1d.default": [c(NONE), c(X)],
    "constant_pad_nd.default": [c(X, [1, 2, 0, 1], 0.5)],
    "tril.default": [c(X, -1)],
    "triu.default": [c(X)],
    "pixel_shuffle.default": [c(f(2, 4, 2, 3), 2)],
    "pixel_unshuffle.default": [c(f(2, 1, 4, 6), 2)],
    "_linalg_det.default": [c(f(2, 3, 3))],
    "det.default": [c(f(3, 3))],
    "logdet.default": [c(T((3, 3), torch.float32, 0.1, 0.9))],
    "flip.default": [c(X, [0, -1]), c(NONE, [])],
    "fliplr.default": [c(X)],
    "flipud.default": [c(X)],
    "roll.default": [c(X, [1, 2], [0, -1]), c(X, [3])],
    "rot90.default": [c(X, 1, [0, 2])],
    "diagonal.default": [c(X, 1, -1, 0)],
    "diagonal_copy.default": [c(X, 0, 1, 2)],
    "diag_embed.default": [c(f(B, 3), 1), c(f(2, 3), 0, 0, -1)],
    "channel_shuffle.default": [c(f(B, 4, 3, 2), 2)],
    "pad.default": [
        c(X, [1, 1], "constant", 2.0), c(f(2, 3, 4), [1, 2], "reflect"),
        c(f(3, 4), [1, 2], "circular"), c(f(2, 3, 4, 4), [1, 1, 0, 2], "replicate"),
    ],
    "new_zeros.default": [c(X, [2, 3])],
    "new_ones.default": [c(X, [2, 3], dtype=I64)],
    "new_full.default": [c(X, [2], 1.5)],
    "meshgrid.default": [c([f(2), f(3)])],
    "meshgrid.indexing": [c([f(2), f(3), f(2)], indexing="xy"), c([f(2), NONE], indexing="ij")],
    **{
        f"{kind}_pad{n}d.default": [
            c(f(2, 3, *[4] * n), [1] * 2 * n), c(f(3, *[4] * n), [1] * 2 * n),
        ]
        for kind in ("reflection", "replication")
        for n in (1, 2, 3)
    },
}  # fmt: skip

INDEX: Mapping[str, list[Case]] = {
    "embedding.default": [c(f(5, 3), i(B, 4, high=5)), c(f(5, 3), i(high=5)), c(f(5, 3), i(4))],
    "index_select.default": [
        c(X, 1, i(5, high=3)), c(X, -1, i(2)), c(f(4), 0, i()), c(f(4, 2), 0, i(3)),
    ],
    "gather.default": [
        c(f(3, 4), 1, i(3, 2)), c(f(3, 4), -2, i(2, 4, high=3)), c(NONE, 0, i(high=1)),
    ],
    "scatter.src": [c(f(3, 4), 1, i(3, 1), f(3, 1))],
    "scatter.value": [c(f(3, 4), 1, i(3, 1), 2.0), c(NONE, 0, i(high=1), 1.0)],
    "scatter.reduce": [c(f(3, 4), 1, i(3, 1), f(3, 1), reduce="add")],
    "scatter.value_reduce": [c(f(3, 4), 1, i(3, 1), 2.0, reduce="multiply")],
    "scatter_add.default": [c(f(3, 4), 1, i(3, 4), f(3, 4))],
    "scatter_reduce.two": [c(f(3, 4), 1, i(3, 4), f(3, 4), "amax")],
    "take_along_dim.default": [
        c(f(3, 4), i(1, 2), 1), c(f(3, 4), i(5, high=12)), c(f(3, 4), i(3, 1), -1),
    ],
    "take.default": [c(f(3, 4), i(2, 2, high=12)), c(f(3), i(high=3))],
    "index.Tensor": [
        c(X, [None, i(2, high=3)]), c(X, [None, i(2, 1, high=3), i(2)]),
        c(f(3, 4), [i(5, high=3)]), c(f(3, 4, 2), [i(2, high=3), None, i(2, high=2)]),
        c(f(3, 4), [i(high=3), i(2)]), c(f(2, 3, 4), [None, i(high=3)]),
    ],
    "index_put.default": [
        c(f(3, 4), [i(2, high=3)], f(2, 4)), c(f(3, 4), [i(2, high=3)], f(4), True),
        c(f(3, 4), [i(2, high=3), i(2)], NONE), c(f(3, 4), [None, i(1)], f(3, 1)),
    ],
    "index_put.hacked_twin": [c(f(3, 4), [i(1, high=3)], f(1, 4))],
    "index_add.default": [c(f(3, 4), 0, i(2, high=3), f(2, 4))],
    "index_copy.default": [c(f(3, 4), 1, i(1), f(3, 1))],
    "index_fill.int_Scalar": [c(f(3, 4), 1, i(2), 0.5)],
    "slice_scatter.default": [c(f(3, 4), f(3, 2), 1, 1, 3)],
    "select_scatter.default": [c(f(3, 4), f(3), -1, 1)],
    "diagonal_scatter.default": [c(f(3, 4), f(3), 0)],
    "one_hot.default": [c(i(B, 3), 4)],
    "bucketize.Tensor": [c(X, T((3,), torch.float32, 0.4, 0.4)), c(NONE, f(1))],
}  # fmt: skip

_PAIR = ("max.dim", "min.dim", "median.dim", "nanmedian.dim", "mode.default", "sort.default")
_ONE = ("cumsum", "cumprod", "logcumsumexp", "cummax", "cummin", "special_softmax")

REDUCE: Mapping[str, list[Case]] = {
    **{f"{n}.default": [c(X, [1]), c(X), c(X, [0, -1], True), c(NONE, [0], True), c(NONE)]
       for n in ("amax", "amin")},
    **{n: [c(X, [1]), c(X, None), c(X, [-1], keepdim=True), c(NONE, [0])]
       for n in ("sum.dim_IntList", "mean.dim", "all.dims", "any.dims")},
    **{f"{n}.correction": [c(X, [1]), c(X, None, correction=0, keepdim=True)]
       for n in ("std", "var", "std_mean", "var_mean")},
    **{f"{n}.dim": [c(X, [1]), c(X, [0, 2], False, True)]
       for n in ("std", "var", "std_mean", "var_mean")},
    "count_nonzero.dim_IntList": [c(X, [1, 0]), c(NONE, [0])],
    "linalg_vector_norm.default": [c(X, 2.0), c(X, 1, [1], True), c(NONE, 2, [0])],
    "logsumexp.default": [c(X, [1, -1]), c(X, [0], True)],
    "norm.ScalarOpt_dim": [c(X, 2, [1]), c(X, 1, [0, -1], True)],
    "norm.ScalarOpt_dim_dtype": [c(X, 2, [1], False, dtype=torch.float64)],
    "_fft_c2c.default": [c(T((2, 4), C64, -1, 1), [1], 0, True)],
    "_fft_r2c.default": [c(f(2, 4), [1], 0, True)],
    "_fft_c2r.default": [c(T((2, 3), C64, -1, 1), [1], 0, 4)],
    **{n: [c(X, 1), c(X, -1), c(NONE, 0)] for n in _PAIR},
    **{f"{n}.default": [c(X, 1), c(NONE, -1)] for n in _ONE},
    "all.dim": [c(X, 1), c(T((2, 3), BOOL, 0.2, 1), 1, True)],
    "any.dim": [c(X, 1)],
    "argsort.default": [c(X, 0, True)],
    "argsort.stable": [c(X, stable=True, dim=1)],
    "sort.stable": [c(X, stable=True, dim=0)],
    "kthvalue.default": [c(X, 2, 1), c(X, 1, -1, True)],
    "softmax.int": [c(X, 1), c(NONE, 0), c(X, -1, torch.float64)],
    "log_softmax.int": [c(X, 1), c(NONE, -1)],
    "_softmax.default": [c(X, -1, False)],
    "_log_softmax.default": [c(X, 0, False)],
    "special_log_softmax.default": [c(X, 1)],
    "prod.dim_int": [c(X, 1), c(X, -1, True)],
    "topk.default": [c(X, 2), c(X, 1, 0, False)],
    "argmax.default": [c(X), c(X, 1), c(X, None, True), c(NONE)],
    "argmin.default": [c(X, -1, True), c(NONE, 0)],
    "aminmax.default": [c(X), c(X, dim=1), c(X, keepdim=True)],
    **{f"{n}.default": [c(X), c(NONE)] for n in (
        "sum", "mean", "max", "min", "all", "any", "var", "std", "var_mean", "std_mean",
        "count_nonzero", "prod", "median", "nanmedian")},
    "norm.Scalar": [c(X), c(X, 1)],
    "norm.ScalarOpt_dtype": [c(X, 2, dtype=torch.float64)],
    "msort.default": [c(X), c(NONE)],
}  # fmt: skip
