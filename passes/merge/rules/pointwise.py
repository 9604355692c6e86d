"""Elementwise operators: members' axes are aligned behind g, then the operator runs as it is.

a [g, H, W], b [g, W]  ->  op(a, b.view(g, 1, W))
"""

import torch
from torch import fx

from fusec.passes.merge.builder import Builder
from fusec.passes.merge.operand import Call, Operand, Result
from fusec.passes.merge.rules.rule import MergeRule, defaults

__all__ = ["RULES"]

aten = torch.ops.aten


def _dim_kind(operands: list[Operand]) -> torch.dtype | None:
    dtype: torch.dtype | None = None
    for operand in operands:
        dtype = operand.dtype if dtype is None else torch.promote_types(dtype, operand.dtype)
    return dtype


def common_dtype(operands: list[Operand]) -> torch.dtype:
    """Give the dtype that torch computes one member's call in: tensors without axes yield."""
    dims = _dim_kind([o for o in operands if o.rank > 0])
    scalars = _dim_kind([o for o in operands if o.rank == 0])
    if dims is None or scalars is None:
        found = scalars if dims is None else dims
        assert found is not None
        return found
    return torch.result_type(torch.empty(1, dtype=dims), torch.empty((), dtype=scalars))


def _channel_forms(b: Builder, operands: dict[str, Operand]) -> dict[str, fx.Node] | None:
    """Give operands as [B, g*C, ..] where all are at hand in this form: no axis is moved then."""
    # Compared, not put into a set: a symbolic extent has no hash.
    shapes = [operand.value.shape for operand in operands.values()]
    if not shapes or any(shape != shapes[0] for shape in shapes):
        return None
    if len({operand.dtype for operand in operands.values()}) != 1:
        return None
    forms = {k: b.ground.folded[o.node] for k, o in operands.items() if o.node in b.ground.folded}
    return forms if len(forms) == len(operands) else None


def _pointwise(b: Builder, call: Call) -> Result:
    operands = {k: v for k, v in call.arguments.items() if isinstance(v, Operand)}
    channels = _channel_forms(b, operands)
    if channels is not None:
        return b.from_channels(b.apply(call, **channels))
    changes: dict[str, object] = {}
    rank = max(operand.rank for operand in operands.values())
    mixed = {k: o for k, o in operands.items() if k not in ("condition", "mask")}
    # With an axis g in front a scalar tensor would take part in type promotion as an equal.
    promote = len({o.dtype for o in mixed.values()}) > 1 and any(
        o.rank == 0 for o in mixed.values()
    )
    dtype = common_dtype(list(mixed.values())) if promote else None
    for name, operand in operands.items():
        node = b.aligned(operand, rank)
        if dtype is not None and name in mixed:
            node = b.cast(node, operand.dtype, dtype)
        changes[name] = node
    layout = call.arguments.get("memory_format")
    if layout in (torch.channels_last, torch.channels_last_3d):
        changes["memory_format"] = torch.preserve_format
    return b.apply(call, **changes)


def _masked_fill(b: Builder, call: Call) -> Result:
    """Operator masked_fill.Tensor wants a value without axes; where does not."""
    x, mask, value = (call.operand(name) for name in ("self", "mask", "value"))
    rank = max(x.rank, mask.rank)
    filler = b.cast(b.aligned(value, rank), value.dtype, x.dtype)
    return b.call(aten.where.self, b.aligned(mask, rank), filler, b.aligned(x, rank))


def _fill(b: Builder, call: Call) -> Result:
    """Operator fill.Tensor wants a value without axes: a value expanded over the shape."""
    x, value = call.operand("self"), call.operand("value")
    filler = b.cast(b.aligned(value, x.rank), value.dtype, x.dtype)
    keep = b.call(aten.zeros_like.default, b.full(x), dtype=torch.bool)
    return b.call(aten.where.self, keep, b.lift(x), filler)


def _like(b: Builder, call: Call) -> Result:
    """Operators type_as and to.other only ask the other tensor for its dtype."""
    x = call.operand("self")
    if not x.grouped:
        return b.cast(b.full(x), x.dtype, call.tensor.dtype)
    return b.cast(x.node, x.dtype, call.tensor.dtype)


def _prelu(b: Builder, call: Call) -> Result:
    """Slope per channel: [g, C] -> [g, 1, C, 1..]."""
    x, weight = call.operand("self"), call.operand("weight")
    slope = weight.node
    if weight.rank == 1 and x.rank > 1:
        slope = b.unsqueeze(b.lift(weight), 1, *[-1] * (x.rank - 2))
    elif weight.grouped:
        slope = b.pad_rank(weight, x.rank)
    return b.call(aten._prelu_kernel.default, b.lift(x), slope)


POINTWISE = (
    "abs", "acos", "acosh", "add.Scalar", "add.Tensor", "addcdiv", "addcmul", "alias", "angle",
    "asin", "asinh", "atan", "atan2", "atanh", "bitwise_and.Scalar", "bitwise_and.Scalar_Tensor",
    "bitwise_and.Tensor", "bitwise_left_shift.Scalar_Tensor", "bitwise_left_shift.Tensor",
    "bitwise_left_shift.Tensor_Scalar", "bitwise_not", "bitwise_or.Scalar",
    "bitwise_or.Scalar_Tensor", "bitwise_or.Tensor", "bitwise_right_shift.Scalar_Tensor",
    "bitwise_right_shift.Tensor", "bitwise_right_shift.Tensor_Scalar", "bitwise_xor.Scalar",
    "bitwise_xor.Scalar_Tensor", "bitwise_xor.Tensor", "ceil", "celu", "clamp", "clamp.Tensor",
    "clamp_max", "clamp_max.Tensor", "clamp_min", "clamp_min.Tensor", "clone", "complex", "_conj",
    "conj", "conj_physical", "contiguous", "copysign.Scalar", "copysign.Tensor", "cos", "cosh",
    "deg2rad", "detach", "digamma", "div.Scalar", "div.Scalar_mode", "div.Tensor",
    "div.Tensor_mode", "elu", "eq.Scalar", "eq.Tensor", "erf", "erfc", "erfinv", "exp", "exp2",
    "expm1", "floor", "floor_divide", "floor_divide.Scalar", "fmax", "fmin", "fmod.Scalar",
    "fmod.Tensor", "frac", "full_like", "gcd", "ge.Scalar", "ge.Tensor", "gelu", "gt.Scalar",
    "gt.Tensor", "hardshrink", "hardsigmoid", "hardswish", "hardtanh", "heaviside", "hypot", "i0",
    "igamma", "igammac", "imag", "isclose", "isin.Tensor_Scalar", "isinf", "isnan", "lcm",
    "ldexp.Tensor", "le.Scalar", "le.Tensor", "leaky_relu", "lerp.Scalar", "lerp.Tensor",
    "lgamma", "lift_fresh_copy", "log", "log10", "log1p", "log2", "log_sigmoid", "logaddexp",
    "logical_and", "logical_not", "logical_or", "logical_xor", "logit", "lt.Scalar", "lt.Tensor",
    "masked_fill.Scalar", "max.other", "maximum", "min.other", "minimum", "mish", "mul.Scalar",
    "mul.Tensor", "nan_to_num", "ne.Scalar", "ne.Tensor", "neg", "nextafter", "ones_like",
    "polar", "polygamma", "positive", "pow.Scalar", "pow.Tensor_Scalar", "pow.Tensor_Tensor",
    "_prelu_kernel", "rad2deg", "real", "reciprocal", "relu", "relu6", "remainder.Scalar",
    "remainder.Scalar_Tensor", "remainder.Tensor", "resolve_conj", "resolve_neg", "round",
    "round.decimals", "rsqrt", "rsub.Scalar", "rsub.Tensor", "selu", "sgn", "sigmoid", "sign",
    "signbit", "silu", "sin", "sinc", "sinh", "softplus", "softshrink", "special_bessel_j0",
    "special_bessel_j1", "special_erfcx", "special_expm1", "special_i0e", "special_i1",
    "special_i1e", "special_ndtri", "special_zeta", "special_zeta.other_scalar",
    "special_zeta.self_scalar", "sqrt", "square", "sub.Scalar", "sub.Tensor", "tan", "tanh",
    "threshold", "to.device", "to.dtype", "to.dtype_layout", "_to_copy", "trunc",
    "view_as_complex", "view_as_real", "where.Scalar", "where.ScalarOther", "where.ScalarSelf",
    "where.self", "xlogy.Scalar_Other", "xlogy.Scalar_Self", "xlogy.Tensor", "zeros_like",
)  # fmt: skip

RULES = (
    MergeRule(
        name="pointwise",
        targets=defaults(POINTWISE),
        build=_pointwise,
    ),
    MergeRule(name="masked_fill", targets=("masked_fill.Tensor",), build=_masked_fill),
    MergeRule(name="fill", targets=("fill.Tensor",), build=_fill),
    MergeRule(name="like", targets=("type_as.default", "to.other"), build=_like),
    MergeRule(name="prelu", targets=("prelu.default",), build=_prelu),
)
