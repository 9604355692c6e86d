"""Recurrent layers as ONNX LSTM, GRU and RNN: gates in ONNX's order, one direction each."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

import fusec.kernels.rnn.grouped
import fusec.kernels.rnn.op  # noqa: F401  (both define operators of torch.ops.fusec)

__all__ = ["translations"]

GATES: Mapping[str, tuple[int, ...]] = {"lstm": (0, 3, 1, 2), "gru": (1, 0, 2), "rnn": (0,)}
"""Place in torch's order of each gate in ONNX's: i, o, f, c of i, f, c, o; z, r, h of r, z, h."""

NAMES: Mapping[str, str] = {
    "affine": "Affine",
    "elu": "Elu",
    "hardsigmoid": "HardSigmoid",
    "leakyrelu": "LeakyRelu",
    "relu": "Relu",
    "scaledtanh": "ScaledTanh",
    "sigmoid": "Sigmoid",
    "softplus": "Softplus",
    "softsign": "Softsign",
    "tanh": "Tanh",
    "thresholdedrelu": "ThresholdedRelu",
}


def translations() -> Mapping[Callable[..., Any], Callable[..., Any]]:
    """Give the operators' ONNX forms, in the way that torch's exporter wants them."""
    return {
        torch.ops.fusec.rnn.default: _rnn,
        torch.ops.fusec.grouped_rnn.default: _grouped_rnn,
    }


def _op() -> Any:
    from onnxscript import opset18

    return opset18


def _constant(value: Sequence[int]) -> Any:
    return _op().Constant(value_ints=list(value))


def _reorder(x: Any, mode: str, size: int, axis: int) -> Any:
    """Put gates along an axis into ONNX's order."""
    order = GATES[mode]
    parts = [
        _op().Slice(x, _constant([i * size]), _constant([(i + 1) * size]), _constant([axis]))
        for i in order
    ]
    return parts[0] if len(parts) == 1 else _op().Concat(*parts, axis=axis)


def _front(x: Any) -> Any:
    return _op().Unsqueeze(x, _constant([0]))


def _rnn(
    x: Any,
    w: Any,
    r: Any,
    b: Any,
    h0: Any,
    c0: Any,
    peephole: Any,
    lengths: Any,
    *,
    mode: str,
    activations: Sequence[str] = (),
    reverse: bool = False,
    alpha: Sequence[float] = (),
    beta: Sequence[float] = (),
    clip: float | None = None,
    reset_after: bool = True,
    input_forget: bool = False,
) -> tuple[Any, Any, Any]:
    return _layer(
        (x, w, r, b, h0, c0, peephole, lengths),
        int(r.shape[-1]),
        mode,
        {
            "activations": activations,
            "reverse": reverse,
            "alpha": alpha,
            "beta": beta,
            "clip": clip,
            "reset_after": reset_after,
            "input_forget": input_forget,
        },
    )


def _attributes(size: int, given: Mapping[str, Any]) -> dict[str, Any]:
    attributes: dict[str, Any] = {
        "hidden_size": size,
        "direction": "reverse" if given["reverse"] else "forward",
    }
    if given["activations"]:
        attributes["activations"] = [NAMES[name] for name in given["activations"]]
    for name in ("alpha", "beta"):
        if given[name]:
            attributes[f"activation_{name}"] = list(given[name])
    if given["clip"] is not None:
        attributes["clip"] = given["clip"]
    return attributes


def _layer(
    operands: Sequence[Any], size: int, mode: str, given: Mapping[str, Any]
) -> tuple[Any, Any, Any]:
    """Emit one layer; `size` is the hidden size, which the operands may not tell."""
    op = _op()
    x, w, r, b, h0, c0, peephole, lengths = operands
    attributes = _attributes(size, given)
    bias = None
    if b is not None:
        rows = _reorder(b, mode, size, 1)
        bias = op.Reshape(rows, _constant([1, -1]))
    times = None if lengths is None else op.Cast(lengths, to=6)
    common = (
        x,
        _front(_reorder(w, mode, size, 0)),
        _front(_reorder(r, mode, size, 0)),
        bias,
        times,
        _front(h0),
    )
    one = _constant([1])
    if mode == "lstm":
        edge = None if peephole is None else _front(peephole)
        y, h, c = op.LSTM(
            *common, _front(c0), edge, input_forget=int(given["input_forget"]), **attributes
        )
        return op.Squeeze(y, one), op.Squeeze(h, _constant([0])), op.Squeeze(c, _constant([0]))
    if mode == "gru":
        y, h = op.GRU(*common, linear_before_reset=int(given["reset_after"]), **attributes)
    else:
        y, h = op.RNN(*common, **attributes)
    return op.Squeeze(y, one), op.Squeeze(h, _constant([0])), _empty(h0, [0])


def _empty(like: Any, shape: Sequence[int]) -> Any:
    return _op().CastLike(_op().ConstantOfShape(_constant(shape)), like)


def _grouped_rnn(
    x: Any,
    w: Any,
    r: Any,
    b: Any,
    h0: Any,
    c0: Any,
    *,
    mode: str,
    reverse: bool = False,
    activation: str = "tanh",
) -> tuple[Any, Any, Any]:
    op = _op()
    results = []
    plain = {
        "activations": (activation,) if mode == "rnn" else (),
        "reverse": reverse,
        "alpha": (),
        "beta": (),
        "clip": None,
        "reset_after": True,
        "input_forget": False,
    }
    for i in range(int(r.shape[0])):
        at = op.Constant(value_int=i)
        own = [None if t is None else op.Gather(t, at, axis=0) for t in (x, w, r, b, h0, c0)]
        results.append(_layer((*own, None, None), int(r.shape[-1]), mode, plain))
    parts = [[_front(result[k]) for result in results] for k in range(3)]
    y, h, c = (part[0] if len(part) == 1 else op.Concat(*part, axis=0) for part in parts)
    return y, h, c
