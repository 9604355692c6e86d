"""The custom operator `fusec::dynamic_quantize_lstm`; importing this module registers it.

One layer, one direction, time-major, as ONNX Runtime's DynamicQuantizeLSTM computes it: the whole
input sequence is quantised to uint8 with one scale, the hidden state with one scale per step,
products are exact integers, everything else is floating point.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from fusec.kernels.rnn.activations import FUNCTIONS, MODE_DEFAULTS, Gate, resolve

SCHEMA = (
    "dynamic_quantize_lstm(Tensor x, Tensor w, Tensor w_scale, Tensor r, Tensor r_scale, "
    "Tensor? b, Tensor h0, Tensor c0, Tensor? peephole, Tensor? lengths, *, bool reverse=False, "
    "str[] activations, float[] alpha=[], float[] beta=[], float? clip=None, "
    "bool input_forget=False) -> (Tensor y, Tensor h, Tensor c)"
)

Result = tuple[Tensor, Tensor, Tensor]


def dynamic_quantize_lstm(
    x: Tensor,
    w: Tensor,
    w_scale: Tensor,
    r: Tensor,
    r_scale: Tensor,
    b: Tensor | None,
    h0: Tensor,
    c0: Tensor,
    peephole: Tensor | None,
    lengths: Tensor | None,
    *,
    reverse: bool = False,
    activations: Sequence[str] = (),
    alpha: Sequence[float] = (),
    beta: Sequence[float] = (),
    clip: float | None = None,
    input_forget: bool = False,
) -> Result:
    """Run one direction with plain torch; gates are in ONNX order i, o, f, c.

    Args:
        x: [T, B, I] float32 inputs.
        w: [I, 4*H] integer input weights less their zero point, as floats.
        w_scale: [] or [4*H].
        r: [H, 4*H] integer recurrent weights less their zero point, as floats.
        r_scale: [] or [4*H].
        b: [4*H] sum of input and recurrent bias, or None.
        h0: [B, H] first hidden state.
        c0: [B, H] first memory.
        peephole: [3*H] for i, o, f, or None.
        lengths: [B] int64 valid steps per row, or None.
        reverse: walk time backwards.
        activations: lower-case ONNX names for f, g, h; empty for defaults.
        alpha: ONNX activation_alpha.
        beta: ONNX activation_beta.
        clip: bound on every activation's input.
        input_forget: forget gate is one minus the input gate.

    Returns:
        y [T, B, H], h [B, H] and c [B, H].
    """
    gates = resolve(activations or MODE_DEFAULTS["lstm"], alpha, beta)
    inputs = _product(x, w, w_scale) if x.numel() else x.new_zeros((*x.shape[:2], w.shape[1]))
    inputs = inputs if b is None else inputs + b
    rows = None if peephole is None else peephole.chunk(3)
    hidden, memory = h0.clone(), c0.clone()
    outputs = [hidden] * x.shape[0]
    times = range(x.shape[0])
    for t in reversed(times) if reverse else times:
        sums = inputs[t] + _product(hidden, r, r_scale)
        new = _step(gates, sums, memory, rows, clip, input_forget)
        if lengths is None:
            outputs[t], hidden, memory = new[0], new[0], new[1]
            continue
        live = (lengths > t).unsqueeze(1)
        outputs[t] = torch.where(live, new[0], torch.zeros_like(new[0]))
        hidden, memory = torch.where(live, new[0], hidden), torch.where(live, new[1], memory)
    y = torch.stack(outputs) if outputs else x.new_empty((0, *h0.shape))
    # An operator's results must not share memory.
    return y, hidden.clone(), memory


def _product(x: Tensor, w: Tensor, w_scale: Tensor) -> Tensor:
    """Quantise `x` [..., K] to uint8 over its whole range and multiply by w [K, N]."""
    low, high = torch.clamp(x.amin(), max=0.0), torch.clamp(x.amax(), min=0.0)
    scale = (high - low) / 255.0
    scale = torch.where(scale == 0, torch.ones_like(scale), scale)
    zero = torch.round(torch.clamp(-low / scale, 0.0, 255.0))
    levels = torch.clamp(torch.round(x / scale) + zero, 0.0, 255.0) - zero
    # A float32 sum of up to 256 products of 8-bit values is exact, longer ones need float64.
    exact = torch.float32 if w.shape[0] <= 256 else torch.float64
    total = torch.matmul(levels.to(exact), w.to(exact)).to(x.dtype)
    return total * (scale * w_scale)


def _step(
    gates: tuple[Gate, ...],
    sums: Tensor,
    memory: Tensor,
    peephole: tuple[Tensor, ...] | None,
    clip: float | None,
    input_forget: bool,
) -> tuple[Tensor, Tensor]:
    """Advance hidden state and memory by one step; `sums` is [B, 4*H]."""

    def activate(which: int, value: Tensor) -> Tensor:
        name, alpha, beta = gates[which]
        value = value if clip is None else torch.clamp(value, -clip, clip)
        return FUNCTIONS[name](value, alpha, beta)

    i, o, f, g = sums.chunk(4, dim=1)
    if peephole is not None:
        i, f = i + peephole[0] * memory, f + peephole[2] * memory
    i = activate(0, i)
    f = 1.0 - i if input_forget else activate(0, f)
    memory = f * memory + i * activate(1, g)
    if peephole is not None:
        o = o + peephole[1] * memory
    name, alpha, beta = gates[2]
    return activate(0, o) * FUNCTIONS[name](memory, alpha, beta), memory


def fake_dynamic_quantize_lstm(
    x: Tensor,
    w: Tensor,
    w_scale: Tensor,
    r: Tensor,
    r_scale: Tensor,
    b: Tensor | None,
    h0: Tensor,
    *others: Tensor | None,
    **attributes: object,
) -> Result:
    """Give result shapes for tracing; extents may be symbols."""
    state = (x.shape[1], h0.shape[1])
    return x.new_empty((x.shape[0], *state)), x.new_empty(state), x.new_empty(state)


# The library object keeps the registration alive for as long as this module is loaded.
LIBRARY = torch.library.Library("fusec", "FRAGMENT")  # type: ignore[no-untyped-call]
LIBRARY.define(SCHEMA, tags=(torch.Tag.pt2_compliant_tag,))  # type: ignore[no-untyped-call]
LIBRARY.impl("dynamic_quantize_lstm", dynamic_quantize_lstm, "CompositeExplicitAutograd")  # type: ignore[no-untyped-call]
torch.library.register_fake("fusec::dynamic_quantize_lstm", fake_dynamic_quantize_lstm, lib=LIBRARY)
