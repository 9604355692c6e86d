"""The recurrent layer as a plain loop over time: every attribute, any dtype, obviously right."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from fusec.kernels.rnn.activations import FUNCTIONS
from fusec.kernels.rnn.gates import GATES, Gate

__all__ = ["GATES", "STEPS", "Cell", "State", "gru_step", "lstm_step", "rnn_step", "run"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """What one time step needs besides the state.

    Attributes:
        mode: "lstm", "gru" or "rnn".
        gates: resolved activations in ONNX order (lstm f, g, h; gru f, g; rnn f).
        clip: bound on the input of every activation, or None.
        reset_after: gru applies the reset gate after the recurrent product.
        input_forget: lstm forget gate is one minus the input gate.
        recurrent: [G*H, H] recurrent weights.
        bias: [G*H] recurrent bias or None.
        peephole: three [H] rows for i, o, f or None.
    """

    mode: str
    gates: tuple[Gate, ...]
    clip: float | None
    reset_after: bool
    input_forget: bool
    recurrent: Tensor
    bias: Tensor | None
    peephole: tuple[Tensor, ...] | None

    def activate(self, which: int, x: Tensor) -> Tensor:
        """Clip `x` and apply activation number `which`."""
        name, alpha, beta = self.gates[which]
        if self.clip is not None:
            x = torch.clamp(x, -self.clip, self.clip)
        return FUNCTIONS[name](x, alpha, beta)


State = tuple[Tensor, Tensor | None]


def lstm_step(cell: Cell, x: Tensor, state: State) -> State:
    """Advance an LSTM; `x` is [B, 4H], the input product with its bias, gates i, f, g, o."""
    hidden, memory = state
    assert memory is not None
    i, f, g, o = (x + F.linear(hidden, cell.recurrent, cell.bias)).chunk(4, dim=1)
    if cell.peephole is not None:
        i = i + cell.peephole[0] * memory
        f = f + cell.peephole[2] * memory
    i = cell.activate(0, i)
    f = 1.0 - i if cell.input_forget else cell.activate(0, f)
    memory = f * memory + i * cell.activate(1, g)
    if cell.peephole is not None:
        o = o + cell.peephole[1] * memory
    name, alpha, beta = cell.gates[2]
    return cell.activate(0, o) * FUNCTIONS[name](memory, alpha, beta), memory


def gru_step(cell: Cell, x: Tensor, state: State) -> State:
    """Advance a GRU; `x` is [B, 3H], the input product with its bias, gates r, z, n."""
    hidden, _ = state
    size = hidden.shape[1]
    xr, xz, xn = x.chunk(3, dim=1)
    if cell.reset_after:
        hr, hz, hn = F.linear(hidden, cell.recurrent, cell.bias).chunk(3, dim=1)
        r = cell.activate(0, xr + hr)
        n = cell.activate(1, xn + r * hn)
    else:
        first = None if cell.bias is None else cell.bias[: 2 * size]
        last = None if cell.bias is None else cell.bias[2 * size :]
        hr, hz = F.linear(hidden, cell.recurrent[: 2 * size], first).chunk(2, dim=1)
        r = cell.activate(0, xr + hr)
        n = cell.activate(1, xn + F.linear(r * hidden, cell.recurrent[2 * size :], last))
    z = cell.activate(0, xz + hz)
    return (1.0 - z) * n + z * hidden, None


def rnn_step(cell: Cell, x: Tensor, state: State) -> State:
    """Advance a plain RNN; `x` is [B, H], the input product with its bias."""
    return cell.activate(0, x + F.linear(state[0], cell.recurrent, cell.bias)), None


STEPS: dict[str, Callable[[Cell, Tensor, State], State]] = {
    "lstm": lstm_step,
    "gru": gru_step,
    "rnn": rnn_step,
}


def run(
    cell: Cell, x: Tensor, state: State, lengths: Tensor | None, reverse: bool
) -> tuple[Tensor, State]:
    """Run the layer over time.

    Rows beyond their length keep their state and give zeros. Walking time backwards with frozen
    rows is the reversal within each row's length.

    Args:
        cell: weights and attributes.
        x: [T, B, G*H], input products of all steps with the input bias.
        state: hidden [B, H] and, for an LSTM, memory [B, H].
        lengths: [B] valid steps per row, or None for all.
        reverse: walk from the last step to the first.

    Returns:
        y [T, B, H] and the last state.
    """
    step = STEPS[cell.mode]
    times = range(x.shape[0])
    outputs: list[Tensor] = [state[0]] * len(times)
    for t in reversed(times) if reverse else times:
        new = step(cell, x[t], state)
        if lengths is None:
            outputs[t] = new[0]
        else:
            live = (lengths > t).unsqueeze(1)
            outputs[t] = torch.where(live, new[0], torch.zeros_like(new[0]))
            new = _freeze(live, new, state)
        state = new
    if not outputs:
        return state[0].new_empty((0, *state[0].shape)), state
    return torch.stack(outputs), state


def _freeze(live: Tensor, new: State, old: State) -> State:
    hidden = torch.where(live, new[0], old[0])
    if new[1] is None or old[1] is None:
        return hidden, None
    return hidden, torch.where(live, new[1], old[1])
