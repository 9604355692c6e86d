"""Recurrent layers: one gemm for the inputs of all steps, then the steps in time.

rnn(x, w, r, b, ...)     gemm   x [T * B, I] times w, plus the input bias
                         rnn    the recurrent part
"""

from collections.abc import Mapping, Sequence

from fusec.ir.errors import ConfigError
from fusec.ir.stage import Layout, LayoutKind, TileOp, View
from fusec.ir.template import Arg, Row, TensorSpec
from fusec.kernels.rnn.gates import GATES, MODE_DEFAULTS, Gate, resolve
from fusec.passes.lower.arguments import need, row_major, shape_of, unit
from fusec.passes.lower.builder import Lowering, Refused, Value
from fusec.passes.lower.panels import panel_width
from fusec.passes.lower.rule import Rule

__all__ = ["PACKERS", "RULES"]


def _layout(spec: TensorSpec, row: Row) -> Layout | None:
    if spec.dtype != "float32" or len(spec.shape) != 2:
        return None
    n, k = (int(extent) for extent in spec.shape)
    return Layout(kind=LayoutKind.PANELS, order=(1, 0), groups=1, k=k, n=n, nr=panel_width(n))


def _rnn(low: Lowering, row: Row) -> Value:
    attrs = dict(row.kwargs)
    x = low.view(row.args[0])
    mode, gates, clip = _activations(attrs)
    need(len(x.shape) == 3 and x.dtype == "float32", f"a layer of {x.dtype}")
    y_shape, state_shape = shape_of(low, row, 0), shape_of(low, row, 1)
    (steps, rows, inputs), hidden = x.shape, y_shape[-1]
    if not isinstance(hidden, int):
        raise Refused("a state of unknown size")
    columns = GATES[mode] * hidden
    w = _panels(low, row.args[1], ("float32", "bfloat16"))
    r = _panels(low, row.args[2], ("float32",))
    need((w[1].k, w[1].n) == (inputs, columns), "input weights do not fit")
    need((r[1].k, r[1].n) == (hidden, columns), "recurrent weights do not fit")
    need(y_shape == (steps, rows, hidden) and state_shape == (rows, hidden), "shapes of a layer")
    need(inputs != 0 and hidden != 0, "a layer without inputs or without a state")
    optional = {
        name: None if len(row.args) <= place else row.args[place]
        for name, place in (("b", 3), ("c0", 5), ("peephole", 6), ("lengths", 7))
    }
    bias: list[View] = []
    if optional["b"] is not None:
        both = _operand(low, optional["b"], "float32", (2, columns))
        step = both.strides[0]
        bias = [
            View(both.slot, both.dtype, (columns,), (1,), both.offset + step * i) for i in range(2)
        ]
    reads = [_operand(low, row.args[4], "float32", (rows, hidden))]
    need((mode == "lstm") == (optional["c0"] is not None), "memory of a layer")
    if mode == "lstm":
        reads.append(_operand(low, optional["c0"], "float32", (rows, hidden)))
    reads += bias[1:]
    if optional["peephole"] is not None:
        need(mode == "lstm", "peepholes of other than an lstm")
        reads.append(_operand(low, optional["peephole"], "float32", (3 * hidden,)))
    if optional["lengths"] is not None:
        reads.append(_operand(low, optional["lengths"], "int64", (rows,)))
    products = low.new("float32", (steps, rows, columns))
    flat = low.reshaped(products, (steps * rows, columns))
    low.emit(
        TileOp.GEMM,
        [row_major(low, x, (steps * rows, inputs)), w[0], *bias[:1]],
        [View(flat.slot, flat.dtype, flat.shape, (columns, 1), 0)],
        k=w[1].k,
        n=w[1].n,
        nr=w[1].nr,
    )
    results = [low.new("float32", y_shape), low.new("float32", state_shape)]
    if mode == "lstm":
        results.append(low.new("float32", state_shape))
    low.emit(
        TileOp.RNN,
        [products, r[0], *reads],
        results,
        mode=mode,
        gates=gates,
        clip=clip,
        hidden=hidden,
        nr=r[1].nr,
        reverse=_flag(attrs, "reverse", False),
        reset_after=_flag(attrs, "reset_after", True),
        input_forget=_flag(attrs, "input_forget", False),
        bias=bool(bias),
        peephole=optional["peephole"] is not None,
        lengths=optional["lengths"] is not None,
    )
    return (*results, *([] if mode == "lstm" else [low.new("float32", (0,))]))


def _activations(attrs: Mapping[str, object]) -> tuple[str, tuple[Gate, ...], float | None]:
    mode, clip = attrs.get("mode"), attrs.get("clip")
    if mode not in GATES or not isinstance(mode, str):
        raise Refused(f"a layer of mode {mode!r}")
    names = list(map(str, _list(attrs, "activations", str))) or MODE_DEFAULTS[mode]
    try:
        gates = resolve(names, _numbers(attrs, "alpha"), _numbers(attrs, "beta"))
    except ConfigError as error:
        raise Refused(str(error)) from error
    need(len(gates) == len(MODE_DEFAULTS[mode]), f"{len(gates)} activations of {mode}")
    if clip is not None and not (type(clip) in (int, float) and float(str(clip)) >= 0):
        raise Refused(f"clip {clip!r}")
    return (
        mode,
        tuple((name, float(a), float(b)) for name, a, b in gates),
        None if clip is None else float(str(clip)),
    )


def _list(attrs: Mapping[str, object], name: str, *kinds: type) -> list[object]:
    value = attrs.get(name, ())
    items = value if isinstance(value, tuple) else (value,)
    need(all(type(item) in kinds for item in items), f"{name} {value!r}")
    return list(items)


def _numbers(attrs: Mapping[str, object], name: str) -> list[float]:
    return [float(str(item)) for item in _list(attrs, name, int, float)]


def _flag(attrs: Mapping[str, object], name: str, default: bool) -> bool:
    value = attrs.get(name, default)
    need(isinstance(value, bool), f"{name} {value!r}")
    return bool(value)


def _panels(low: Lowering, arg: Arg, dtypes: Sequence[str]) -> tuple[View, Layout]:
    packed = low.packed(arg)
    if packed is None:
        raise Refused("weights that are not packed")
    view, layout = packed
    fits = (layout.groups, layout.order, layout.split) == (1, (1, 0), ())
    need(view.dtype in dtypes and fits, "weights in another layout")
    return packed


def _operand(low: Lowering, arg: Arg, dtype: str, shape: tuple[object, ...]) -> View:
    """Give a tensor operand with its last axis contiguous."""
    view = low.view(arg)
    need(view.dtype == dtype and view.shape == shape, f"an operand {view.dtype}{view.shape}")
    if len(shape) == 1 and dtype == "int64":
        return view
    return view if unit(view) else low.contiguous(view)


RULES: Mapping[str, Rule] = {"fusec.rnn.default": _rnn}

PACKERS = {"fusec.rnn.default": ((1, 2), _layout)}
"""Where the weights are among the operands, and what is proposed for them."""
