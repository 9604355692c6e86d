"""RNN, GRU and LSTM as one `fusec::rnn` per direction."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import torch

import fusec.kernels.rnn.op  # noqa: F401  (registers torch.ops.fusec.rnn)
from fusec.importers.onnx.call import Call
from fusec.importers.onnx.ops.support import cast_to
from fusec.importers.onnx.table import Op
from fusec.importers.onnx.values import Value, to_tensor
from fusec.kernels.rnn.activations import DEFAULTS, MODE_DEFAULTS

Tensor = torch.Tensor

# Position in the file of each gate in torch's order: LSTM i,o,f,c -> i,f,g,o; GRU z,r,h -> r,z,n.
_ORDER: Final[Mapping[str, tuple[int, ...]]] = {
    "lstm": (0, 2, 3, 1),
    "gru": (1, 0, 2),
    "rnn": (0,),
}


def _reorder(weights: Tensor, mode: str, axis: int) -> Tensor:
    order = _ORDER[mode]
    if len(order) == 1:
        return weights
    gates = weights.chunk(len(order), axis)
    return torch.cat([gates[i] for i in order], axis)


def _activations(call: Call, mode: str, directions: int) -> list[dict[str, Any]]:
    """Return names, alpha and beta per direction; the lists of the file run over all of them."""
    per = len(MODE_DEFAULTS[mode])
    names = [name.lower() for name in call.attr("activations", None) or []]
    names = names or list(MODE_DEFAULTS[mode]) * directions
    if len(names) != per * directions:
        call.fail(f"wanted {per * directions} activations, got {len(names)}")
    alpha = list(call.attr("activation_alpha", None) or [])
    beta = list(call.attr("activation_beta", None) or [])
    result = []
    for i in range(directions):
        mine = names[i * per : (i + 1) * per]
        a = sum(DEFAULTS.get(name, (None, None))[0] is not None for name in mine)
        b = sum(DEFAULTS.get(name, (None, None))[1] is not None for name in mine)
        plain = tuple(mine) == MODE_DEFAULTS[mode]
        result.append({"activations": [] if plain else mine, "alpha": alpha[:a], "beta": beta[:b]})
        alpha, beta = alpha[a:], beta[b:]
    return result


def _lengths(lengths: Value, steps: Any) -> Tensor | None:
    """Return the valid steps per row, or None where all are whole."""
    if lengths is None:
        return None
    if isinstance(lengths, np.ndarray) and isinstance(steps, int) and (lengths == steps).all():
        return None
    return cast_to(to_tensor(lengths), torch.int64)


def _state(state: Tensor | None, index: int, like: Sequence[Any], x: Tensor) -> Tensor:
    return x.new_zeros(tuple(like)) if state is None else state[index]


def _tensor(value: Value) -> Tensor | None:
    return None if value is None else to_tensor(value)


def _run(mode: str, call: Call, *given: Value) -> tuple[Value, ...]:
    """Evaluate all directions of one layer.

    Inputs are those of the ONNX operators: X, W, R, B, sequence_lens, initial_h, initial_c, P.
    """
    inputs = list(given) + [None] * (8 - len(given))
    x, w, r = (to_tensor(value) for value in inputs[:3])
    bias, hidden, memory, peephole = (_tensor(inputs[i]) for i in (3, 5, 6, 7))
    batch_first = bool(call.attr("layout", 0))
    if batch_first:
        x = x.transpose(0, 1)
        hidden = None if hidden is None else hidden.transpose(0, 1)
        memory = None if memory is None else memory.transpose(0, 1)
    direction = call.attr("direction", "forward")
    if direction not in ("forward", "reverse", "bidirectional"):
        call.fail(f"direction is '{direction}'; known are forward, reverse, bidirectional")
    lengths = _lengths(inputs[4], x.shape[0])
    directions = 2 if direction == "bidirectional" else 1
    shape = (x.shape[1], r.shape[-1])
    clip = call.attr("clip", None)
    results = []
    for i, functions in enumerate(_activations(call, mode, directions)):
        rows = None if bias is None else _reorder(bias[i].reshape(2, -1), mode, 1)
        results.append(
            torch.ops.fusec.rnn(
                x,
                _reorder(w[i], mode, 0),
                _reorder(r[i], mode, 0),
                rows,
                _state(hidden, i, shape, x),
                _state(memory, i, shape, x) if mode == "lstm" else None,
                None if peephole is None else peephole[i],
                lengths,
                mode=mode,
                reverse=direction == "reverse" or i == 1,
                clip=None if not clip else float(clip),
                reset_after=mode != "gru" or bool(call.attr("linear_before_reset", 0)),
                input_forget=bool(call.attr("input_forget", 0)),
                **functions,
            )
        )
    return _outputs(results, mode, batch_first=batch_first)


def _outputs(
    results: list[tuple[Tensor, Tensor, Tensor]], mode: str, *, batch_first: bool
) -> tuple[Value, ...]:
    """Join directions: Y [T, D, B, H], Y_h and Y_c [D, B, H] (batch first: B leads)."""
    ys, hs, cs = zip(*results, strict=True)
    y = torch.stack(ys, 2 if batch_first else 1)
    y = y.transpose(0, 1) if batch_first else y
    axis = 1 if batch_first else 0
    states = [torch.stack(hs, axis)]
    if mode == "lstm":
        states.append(torch.stack(cs, axis))
    return y, *states


OPS: Final[Mapping[str, Op]] = {
    "GRU": Op(run=lambda call, *inputs: _run("gru", call, *inputs), either=True),
    "LSTM": Op(run=lambda call, *inputs: _run("lstm", call, *inputs), either=True),
    "RNN": Op(run=lambda call, *inputs: _run("rnn", call, *inputs), either=True),
}
