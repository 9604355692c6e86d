"""The custom operator `fusec::rnn`: importing this module registers it with torch.

One layer, one direction, time-major. See `SCHEMA` and `rnn`.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from fusec.ir.errors import ConfigError
from fusec.kernels.rnn import reference
from fusec.kernels.rnn.activations import MODE_DEFAULTS, Gate, resolve

SCHEMA = (
    "rnn(Tensor x, Tensor w, Tensor r, Tensor? b, Tensor h0, Tensor? c0, Tensor? peephole, "
    "Tensor? lengths, *, str mode, bool reverse=False, str[] activations, float[] alpha=[], "
    "float[] beta=[], float? clip=None, bool reset_after=True, bool input_forget=False) "
    "-> (Tensor y, Tensor h, Tensor c)"
)

Result = tuple[Tensor, Tensor, Tensor]


def rnn(
    x: Tensor,
    w: Tensor,
    r: Tensor,
    b: Tensor | None,
    h0: Tensor,
    c0: Tensor | None,
    peephole: Tensor | None,
    lengths: Tensor | None,
    *,
    mode: str,
    reverse: bool = False,
    activations: Sequence[str] = (),
    alpha: Sequence[float] = (),
    beta: Sequence[float] = (),
    clip: float | None = None,
    reset_after: bool = True,
    input_forget: bool = False,
) -> Result:
    """Run one direction of one recurrent layer with plain torch.

    Args:
        x: [T, B, I] inputs.
        w: [G*H, I] input weights; gates i, f, g, o (lstm), r, z, n (gru), one (rnn).
        r: [G*H, H] recurrent weights.
        b: [2, G*H] input bias row and recurrent bias row, or None.
        h0: [B, H] first hidden state.
        c0: [B, H] first memory of an LSTM, else None.
        peephole: [3*H] for i, o, f, or None.
        lengths: [B] int64 valid steps per row, or None.
        mode: "lstm", "gru" or "rnn".
        reverse: walk time backwards (within each row's length).
        activations: lower-case ONNX names (lstm f, g, h; gru f, g; rnn f); empty for defaults.
        alpha: ONNX activation_alpha, consumed in order by the functions that have one.
        beta: ONNX activation_beta, likewise.
        clip: bound on every activation's input.
        reset_after: gru resets after the recurrent product (ONNX linear_before_reset).
        input_forget: lstm forget gate is one minus the input gate.

    Returns:
        y [T, B, H], h [B, H] and c [B, H] (shape [0] unless an LSTM).

    Raises:
        ConfigError: an unknown mode or activation, or operands whose shapes disagree.
    """
    _check(x.shape, w.shape, r.shape, h0.shape, None if c0 is None else c0.shape, mode)
    gates = resolve(activations or MODE_DEFAULTS[mode], alpha, beta)
    if len(gates) != len(MODE_DEFAULTS[mode]):
        raise ConfigError(f"{mode} takes {len(MODE_DEFAULTS[mode])} activations, got {len(gates)}")
    plain = peephole is None and lengths is None and clip is None and not input_forget
    if plain and x.numel() > 0 and h0.numel() > 0:
        fast = _library_call(mode, gates, reset_after)
        if fast is not None:
            return _run_library(fast, x, w, r, b, h0, c0, reverse)
    cell = reference.Cell(
        mode=mode,
        gates=gates,
        clip=clip,
        reset_after=reset_after,
        input_forget=input_forget,
        recurrent=r,
        bias=None if b is None else b[1],
        peephole=None if peephole is None else peephole.chunk(3),
    )
    inputs = F.linear(x, w, None if b is None else b[0])
    y, (h, c) = reference.run(cell, inputs, (h0, c0), lengths, reverse)
    # An operator's results must be tensors of its own, also when no step ran.
    h = h.clone() if h is h0 else h
    if mode != "lstm":
        return y, h, x.new_empty((0,))
    assert c is not None
    return y, h, c.clone() if c is c0 else c


def _check(
    x: torch.Size,
    w: torch.Size,
    r: torch.Size,
    h0: torch.Size,
    c0: torch.Size | None,
    mode: str,
) -> None:
    if mode not in reference.GATES:
        raise ConfigError(f"fusec::rnn: mode {mode!r} is unknown; known: lstm, gru, rnn")
    if len(x) != 3 or len(w) != 2 or len(r) != 2 or len(h0) != 2:
        raise ConfigError(
            f"fusec::rnn wants x [T,B,I], w [G*H,I], r [G*H,H], h0 [B,H]; "
            f"got {tuple(x)}, {tuple(w)}, {tuple(r)}, {tuple(h0)}"
        )
    rows = reference.GATES[mode] * h0[1]
    if w[0] != rows or r[0] != rows or r[1] != h0[1] or w[1] != x[2] or h0[0] != x[1]:
        raise ConfigError(
            f"fusec::rnn ({mode}): x {tuple(x)}, w {tuple(w)}, r {tuple(r)} and h0 {tuple(h0)} "
            f"do not belong together"
        )
    if (c0 is not None) != (mode == "lstm") or (c0 is not None and c0 != h0):
        raise ConfigError(f"fusec::rnn ({mode}): c0 must be like h0 for an lstm and None otherwise")


def _library_call(mode: str, gates: tuple[Gate, ...], reset_after: bool) -> str | None:
    """Name the torch function that computes exactly this layer, if there is one."""
    names = tuple(name for name, _, _ in gates)
    if mode == "rnn":
        return {"tanh": "rnn_tanh", "relu": "rnn_relu"}.get(names[0])
    if names != MODE_DEFAULTS[mode] or (mode == "gru" and not reset_after):
        return None
    return mode


def _run_library(
    name: str,
    x: Tensor,
    w: Tensor,
    r: Tensor,
    b: Tensor | None,
    h0: Tensor,
    c0: Tensor | None,
    reverse: bool,
) -> Result:
    params = [w, r] if b is None else [w, r, b[0], b[1]]
    inputs = x.flip(0) if reverse else x
    hidden = h0.unsqueeze(0)
    tail = (params, b is not None, 1, 0.0, False, False, False)
    if c0 is not None:
        y, h, c = torch._VF.lstm(inputs, (hidden, c0.unsqueeze(0)), *tail)
        memory = c.squeeze(0)
    else:
        y, h = getattr(torch._VF, name)(inputs, hidden, *tail)
        memory = x.new_empty((0,))
    # With one step the library may return y and h as one memory; results may not share it.
    return (y.flip(0) if reverse else y), h.squeeze(0).clone(), memory


def fake_rnn(
    x: Tensor,
    w: Tensor,
    r: Tensor,
    b: Tensor | None,
    h0: Tensor,
    c0: Tensor | None,
    peephole: Tensor | None,
    lengths: Tensor | None,
    *,
    mode: str,
    **attributes: object,
) -> Result:
    """Give result shapes for tracing; extents may be symbols."""
    y = x.new_empty((x.shape[0], x.shape[1], r.shape[1]))
    h = x.new_empty((x.shape[1], r.shape[1]))
    c = x.new_empty((x.shape[1], r.shape[1]) if mode == "lstm" else (0,))
    return y, h, c


# The library object keeps the registration alive for as long as this module is loaded.
LIBRARY = torch.library.Library("fusec", "FRAGMENT")  # type: ignore[no-untyped-call]
LIBRARY.define(SCHEMA, tags=(torch.Tag.pt2_compliant_tag,))  # type: ignore[no-untyped-call]
LIBRARY.impl("rnn", rnn, "CompositeExplicitAutograd")  # type: ignore[no-untyped-call]
torch.library.register_fake("fusec::rnn", fake_rnn, lib=LIBRARY)
