"""The custom operator `fusec::grouped_rnn`: plain recurrent layers of many members as one loop.

One layer, one direction, default activations, no lengths, clip, peepholes or coupled gates. What a
time step costs in calls is paid once for all members; for wide layers the library's own loop per
member is faster, see the merge rule.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from fusec.ir.errors import ConfigError

__all__ = ["SCHEMA", "grouped_rnn"]

SCHEMA = (
    "grouped_rnn(Tensor x, Tensor w, Tensor r, Tensor? b, Tensor h0, Tensor? c0, *, "
    "str mode, bool reverse=False, str activation='tanh') -> (Tensor y, Tensor h, Tensor c)"
)

Result = tuple[Tensor, Tensor, Tensor]
State = tuple[Tensor, Tensor | None]
Step = Callable[[Tensor, Tensor, Tensor | None, State], State]


def _lstm(x: Tensor, r: Tensor, bias: Tensor | None, state: State) -> State:
    hidden, memory = state
    assert memory is not None
    i, f, g, o = torch.baddbmm(x, hidden, r).chunk(4, dim=2)
    memory = torch.sigmoid(f) * memory + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(memory), memory


def _gru(x: Tensor, r: Tensor, bias: Tensor | None, state: State) -> State:
    hidden = state[0]
    size = hidden.shape[2]
    product = torch.bmm(hidden, r) if bias is None else torch.baddbmm(bias, hidden, r)
    gates = torch.sigmoid(x[:, :, : 2 * size] + product[:, :, : 2 * size])
    n = torch.tanh(x[:, :, 2 * size :] + gates[:, :, :size] * product[:, :, 2 * size :])
    return torch.lerp(n, hidden, gates[:, :, size:]), None


def _tanh(x: Tensor, r: Tensor, bias: Tensor | None, state: State) -> State:
    return torch.tanh(torch.baddbmm(x, state[0], r)), None


def _relu(x: Tensor, r: Tensor, bias: Tensor | None, state: State) -> State:
    return torch.relu(torch.baddbmm(x, state[0], r)), None


STEPS: dict[tuple[str, str], Step] = {
    ("lstm", "tanh"): _lstm,
    ("gru", "tanh"): _gru,
    ("rnn", "tanh"): _tanh,
    ("rnn", "relu"): _relu,
}


def grouped_rnn(
    x: Tensor,
    w: Tensor,
    r: Tensor,
    b: Tensor | None,
    h0: Tensor,
    c0: Tensor | None,
    *,
    mode: str,
    reverse: bool = False,
    activation: str = "tanh",
) -> Result:
    """Run one layer of g members.

    Args:
        x: [g, T, B, I] inputs.
        w: [g, G*H, I] input weights; gates i, f, g, o (lstm), r, z, n (gru), one (rnn).
        r: [g, G*H, H] recurrent weights.
        b: [g, 2, G*H] input bias row and recurrent bias row, or None.
        h0: [g, B, H] first hidden state.
        c0: [g, B, H] first memory of an LSTM, else None.
        mode: "lstm", "gru" (reset after the recurrent product) or "rnn".
        reverse: walk time backwards.
        activation: of mode "rnn": "tanh" or "relu".

    Returns:
        y [g, T, B, H], h [g, B, H] and c [g, B, H] ([g, 0] unless an LSTM).

    Raises:
        ConfigError: a mode or activation that is not known here.
    """
    step = STEPS.get((mode, activation))
    if step is None:
        raise ConfigError(f"fusec::grouped_rnn: no {mode!r} with {activation!r}")
    members, times, rows, width = x.shape
    # A GRU gates its recurrent bias; elsewhere both biases are one sum.
    apart = mode == "gru"
    first = None if b is None else (b[:, :1] if apart else b.sum(1, keepdim=True))
    last = b[:, 1:] if b is not None and apart else None
    flat = x.reshape(members, times * rows, width)
    turned = w.transpose(1, 2)
    inputs = torch.bmm(flat, turned) if first is None else torch.baddbmm(first, flat, turned)
    # Time first, so that every step reads one block.
    steps = inputs.reshape(members, times, rows, turned.shape[2]).transpose(0, 1).contiguous()
    recurrent = r.transpose(1, 2).contiguous()
    state: State = (h0, c0)
    outputs: list[Tensor] = [h0] * times
    for t in reversed(range(times)) if reverse else range(times):
        state = step(steps[t], recurrent, last, state)
        outputs[t] = state[0]
    y = torch.stack(outputs, 1) if times else x.new_empty((members, 0, *h0.shape[1:]))
    hidden, memory = state
    if memory is None:
        return y, hidden.clone(), x.new_empty((members, 0))
    return y, hidden.clone(), memory.clone()


def _fake(
    x: Tensor,
    w: Tensor,
    r: Tensor,
    b: Tensor | None,
    h0: Tensor,
    c0: Tensor | None,
    *,
    mode: str,
    reverse: bool = False,
    activation: str = "tanh",
) -> Result:
    members, times, rows, _ = x.shape
    size = r.shape[2]
    y = x.new_empty((members, times, rows, size))
    h = x.new_empty((members, rows, size))
    c = x.new_empty((members, rows, size) if mode == "lstm" else (members, 0))
    return y, h, c


# The library object keeps the registration alive for as long as this module is loaded.
LIBRARY = torch.library.Library("fusec", "FRAGMENT")  # type: ignore[no-untyped-call]
LIBRARY.define(SCHEMA, tags=(torch.Tag.pt2_compliant_tag,))  # type: ignore[no-untyped-call]
LIBRARY.impl("grouped_rnn", grouped_rnn, "CompositeExplicitAutograd")  # type: ignore[no-untyped-call]
torch.library.register_fake("fusec::grouped_rnn", _fake, lib=LIBRARY)
