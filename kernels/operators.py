"""The fusec operator set: every operator that a program or a plan file may name.

Core ATen by torch's own tag, plus operators kept whole because compilers and kernels want
them whole, plus the custom operators of `fusec.kernels`, plus arithmetic on symbolic extents. A
name that is not here is refused when a model is imported and when a file is read.
"""

import math
import operator
from collections.abc import Callable, Mapping
from functools import cache

import torch

import fusec.kernels.coupling.op
import fusec.kernels.rnn.grouped
import fusec.kernels.rnn.op
import fusec.kernels.rnn_quantised.op
import fusec.kernels.suppress.op  # noqa: F401  (these define the operators of torch.ops.fusec)
from fusec.ir.errors import UnsupportedError

__all__ = ["WHOLE", "is_operator", "name_of", "operators", "resolve"]

WHOLE: tuple[str, ...] = (
    "_adaptive_avg_pool2d", "_adaptive_avg_pool3d", "_assert_tensor_metadata", "_conj",
    "_fft_c2c", "_fft_c2r", "_fft_r2c", "_int_mm", "_linalg_det", "_linalg_eigh",
    "_linalg_slogdet", "_linalg_solve_ex", "_linalg_svd", "_log_softmax",
    "_native_batch_norm_legit_no_training", "_prelu_kernel", "_softmax", "_to_copy",
    "_trilinear", "_unique2", "_unsafe_view", "_upsample_bicubic2d_aa",
    "_upsample_bilinear2d_aa", "_upsample_nearest_exact1d", "_upsample_nearest_exact2d",
    "_upsample_nearest_exact3d", "_weight_norm", "adaptive_avg_pool2d", "adaptive_avg_pool3d",
    "adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d", "addbmm", "addcdiv",
    "addcmul", "addr", "affine_grid_generator", "alias", "all", "aminmax", "angle", "any",
    "argsort", "argwhere", "atleast_1d", "atleast_2d", "atleast_3d", "avg_pool1d", "avg_pool2d",
    "avg_pool3d", "baddbmm", "batch_norm", "bilinear", "bincount", "bitwise_and",
    "bitwise_left_shift", "bitwise_not", "bitwise_or", "bitwise_right_shift", "bitwise_xor",
    "broadcast_to", "bucketize", "cartesian_prod", "celu", "channel_shuffle", "chunk", "clamp",
    "clamp_max", "clamp_min", "clone", "complex", "concat", "conj", "conj_physical",
    "constant_pad_nd", "contiguous", "conv1d", "conv2d", "conv3d", "conv_transpose1d",
    "conv_transpose2d", "conv_transpose3d", "convolution", "copysign", "cosine_similarity",
    "count_nonzero", "cross", "cummax", "cummin", "cumprod", "cumulative_trapezoid", "deg2rad",
    "det", "detach", "diag", "diag_embed", "diagonal", "diagonal_copy", "diagonal_scatter",
    "digamma", "dist", "dot", "dsplit", "einsum", "elu", "embedding_bag", "erfc", "erfinv",
    "exp2", "expand", "expand_as", "eye", "fft_c2c", "fill", "flatten", "flip", "fliplr",
    "flipud", "floor_divide", "fmax", "fmin", "fmod", "frac", "frexp", "full_like", "gcd",
    "gelu", "glu", "grid_sampler", "grid_sampler_2d", "grid_sampler_3d", "group_norm",
    "hann_window", "hardshrink", "hardsigmoid", "hardswish", "hardtanh", "heaviside", "histc",
    "hsplit", "hstack", "hypot", "i0", "igamma", "igammac", "im2col", "imag", "index_add",
    "index_copy", "index_fill", "index_put", "index_reduce", "index_select", "inner",
    "instance_norm", "isclose", "isin", "kron", "kthvalue", "l1_loss", "layer_norm", "lcm",
    "ldexp", "leaky_relu", "lerp", "lgamma", "lift_fresh_copy", "linalg_cholesky_ex",
    "linalg_inv_ex", "linalg_lu", "linalg_matrix_exp", "linalg_qr", "linalg_solve_triangular",
    "linalg_vector_norm", "linear", "linspace", "log_sigmoid", "log_softmax", "logaddexp",
    "logcumsumexp", "logdet", "logical_and", "logical_not", "logical_or", "logical_xor",
    "logit", "logspace", "logsumexp", "mT", "masked_fill", "masked_select", "matmul", "max",
    "max_pool1d", "max_pool2d", "max_pool3d", "max_unpool2d", "max_unpool3d", "mean", "median",
    "meshgrid", "min", "mish", "mode", "moveaxis", "movedim", "mse_loss", "msort", "mv",
    "nan_to_num", "nanmedian", "narrow", "native_batch_norm", "new_full", "new_ones",
    "new_zeros", "nextafter", "nll_loss", "nonzero", "norm", "numpy_T", "one_hot", "ones",
    "ones_like", "outer", "pad", "pairwise_distance", "permute", "pixel_shuffle",
    "pixel_unshuffle", "polar", "polygamma", "positive", "prelu", "put", "quantile", "rad2deg",
    "ravel", "real", "reflection_pad1d", "reflection_pad2d", "reflection_pad3d", "relu6",
    "remainder", "renorm", "repeat_interleave", "replication_pad1d", "replication_pad2d",
    "replication_pad3d", "reshape", "reshape_as", "resolve_conj", "resolve_neg", "rms_norm",
    "roll", "rot90", "round", "rsub", "scaled_dot_product_attention", "scatter", "scatter_add",
    "scatter_reduce", "searchsorted", "select_scatter", "selu", "sgn", "sign", "signbit",
    "silu", "sinc", "slice_scatter", "softmax", "softplus", "softshrink", "sort",
    "special_bessel_j0", "special_bessel_j1", "special_erfcx", "special_expm1", "special_i0e",
    "special_i1", "special_i1e", "special_log_softmax", "special_ndtri", "special_softmax",
    "special_zeta", "split", "square", "squeeze", "stack", "std", "std_mean", "sum",
    "sum_to_size", "swapaxes", "swapdims", "t", "take", "take_along_dim", "tanhshrink",
    "tensor_split", "threshold", "tile", "to", "topk", "trace", "transpose", "triangular_solve",
    "tril", "tril_indices", "triu", "triu_indices", "trunc", "type_as", "unbind", "unflatten",
    "unfold", "unique_consecutive", "unique_dim", "unsafe_chunk", "unsafe_split", "unsqueeze",
    "upsample_bicubic2d", "upsample_bilinear2d", "upsample_linear1d", "upsample_nearest1d",
    "upsample_nearest2d", "upsample_nearest3d", "upsample_trilinear3d", "vander", "var",
    "var_mean", "view", "view_as", "view_as_complex", "view_as_real", "view_copy", "vsplit",
    "vstack", "where", "xlogy", "zeros", "zeros_like",
)  # fmt: skip
"""ATen operators beyond the core tag, all overloads without `out` and without mutation."""

CUSTOM: tuple[str, ...] = (
    "dynamic_quantize_lstm",
    "grouped_rnn",
    "non_max_suppression",
    "pairwise_coupling",
    "rnn",
)
"""Operators that `fusec.kernels` defines, each with a plain and a fake implementation."""

_HOST: Mapping[str, Callable[..., object]] = {
    "getitem": operator.getitem,
    "sym.add": operator.add,
    "sym.sub": operator.sub,
    "sym.mul": operator.mul,
    "sym.truediv": operator.truediv,
    "sym.floordiv": operator.floordiv,
    "sym.mod": operator.mod,
    "sym.neg": operator.neg,
    "sym.pow": operator.pow,
    "sym.eq": operator.eq,
    "sym.ne": operator.ne,
    "sym.lt": operator.lt,
    "sym.le": operator.le,
    "sym.gt": operator.gt,
    "sym.ge": operator.ge,
    "sym.and": operator.and_,
    "sym.or": operator.or_,
    "sym.not": torch.sym_not,
    "sym.max": torch.sym_max,
    "sym.min": torch.sym_min,
    "sym.float": torch.sym_float,
    "sym.int": torch.sym_int,
    "sym.ite": torch.sym_ite,
    "sym.ceil": math.ceil,
    "sym.floor": math.floor,
    "sym.trunc": math.trunc,
}
"""Arithmetic on host numbers: symbolic extents while tracing, integers when running."""


def _packets() -> set[str]:
    """Names of all ATen operators; torch.ops itself only lists those already touched."""
    names = torch._C._dispatch_get_all_op_names()
    return {n.removeprefix("aten::").partition(".")[0] for n in names if n.startswith("aten::")}


def _overloads(packet_name: str) -> list[torch._ops.OpOverload]:
    packet = getattr(torch.ops.aten, packet_name, None)
    if not isinstance(packet, torch._ops.OpOverloadPacket):
        return []
    return [getattr(packet, overload) for overload in packet.overloads()]  # type: ignore[no-untyped-call]


def _allowed(op: torch._ops.OpOverload) -> bool:
    schema = op._schema
    return not schema.is_mutable and "out" not in op._overloadname.split("_")


@cache
def operators() -> Mapping[str, Callable[..., object]]:
    """Give the whole set, name to callable. Cost: once per process, some milliseconds."""
    table: dict[str, Callable[..., object]] = dict(_HOST)
    whole = frozenset(WHOLE)
    for packet in sorted(_packets()):
        for op in _overloads(packet):
            if _allowed(op) and (packet in whole or torch.Tag.core in op.tags):
                table[str(op)] = op
    for name in CUSTOM:
        table[f"fusec.{name}.default"] = getattr(torch.ops.fusec, name).default
    table["cond"] = torch.ops.higher_order.cond
    return table


@cache
def _names() -> Mapping[Callable[..., object], str]:
    return {target: name for name, target in operators().items()}


def is_operator(target: object) -> bool:
    """Tell whether a call target belongs to the operator set."""
    return callable(target) and target in _names()


def name_of(target: object) -> str:
    """Give the name of an operator.

    Raises:
        UnsupportedError: the target is not in the operator set.
    """
    name = _names().get(target) if callable(target) else None
    if name is None:
        raise UnsupportedError(
            f"operator {target} is not in the fusec operator set; rewrite the model without it, "
            "or add it to fusec/kernels/operators.py with a test"
        )
    return name


def resolve(name: str) -> Callable[..., object]:
    """Give the callable of an operator name.

    Raises:
        UnsupportedError: the name is not in the operator set.
    """
    target = operators().get(name)
    if target is None:
        raise UnsupportedError(f"operator name {name!r} is not in the fusec operator set")
    return target
