"""Recurrent stages in plain NumPy: a loop over time, in float64, rounded once at the end."""

from collections.abc import Callable, Mapping

import numpy as np

from fusec.ir.stage import Stage
from fusec.kernels.gemm.pack import matrices
from fusec.kernels.memory import Memory
from fusec.kernels.rnn.encode import operands
from fusec.kernels.rnn.gates import GATES

__all__ = ["run"]

Array = np.ndarray

FUNCTIONS: Mapping[str, Callable[[Array, float, float], Array]] = {
    "sigmoid": lambda x, a, b: 1 / (1 + np.exp(-x)),
    "tanh": lambda x, a, b: np.tanh(x),
    "relu": lambda x, a, b: np.maximum(x, 0),
    "affine": lambda x, a, b: a * x + b,
    "leakyrelu": lambda x, a, b: np.where(x >= 0, x, a * x),
    "thresholdedrelu": lambda x, a, b: np.where(x > a, x, 0),
    "scaledtanh": lambda x, a, b: a * np.tanh(b * x),
    "hardsigmoid": lambda x, a, b: np.clip(a * x + b, 0, 1),
    "elu": lambda x, a, b: np.where(x >= 0, x, a * np.expm1(x)),
    "softsign": lambda x, a, b: x / (1 + np.abs(x)),
    "softplus": lambda x, a, b: np.where(x > 50, x, np.log1p(np.exp(np.minimum(x, 50)))),
}


def run(stage: Stage, memory: Memory) -> None:
    """Compute a recurrent stage.

    Args:
        stage: of op `rnn`.
        memory: of one instance.
    """
    given = {name: memory.array(view) for name, view in operands(stage).items()}
    hidden, mode = int(str(stage.attr("hidden"))), str(stage.attr("mode"))
    columns = GATES[mode] * hidden
    r = matrices(given["r"], 1, hidden, columns, int(str(stage.attr("nr"))))[0]
    h = given["h0"].astype(np.float64)
    c = given["c0"].astype(np.float64) if "c0" in given else None
    y = memory.array(stage.writes[0])
    with np.errstate(all="ignore"):
        for t in range(len(y))[:: -1 if stage.attr("reverse") else 1]:
            step = _Step(stage, r.astype(np.float64), given)
            new_h, new_c = step(given["x"][t].astype(np.float64), h, c)
            live = np.ones((len(h), 1), bool)
            if "lengths" in given:
                live = (given["lengths"] > t)[:, None]
            y[t] = np.where(live, new_h, 0)
            h = np.where(live, new_h, h)
            c = None if new_c is None or c is None else np.where(live, new_c, c)
    memory.array(stage.writes[1])[...] = h
    if c is not None:
        memory.array(stage.writes[2])[...] = c


class _Step:
    """One step in time: input products [B, G * H] and the state, to the next state."""

    def __init__(self, stage: Stage, r: Array, given: Mapping[str, Array]) -> None:
        self.stage, self.r = stage, r
        self.bias = given["bias"] if "bias" in given else np.zeros(r.shape[1])
        self.peephole = np.split(given["peephole"], 3) if "peephole" in given else (0, 0, 0)

    def act(self, number: int, x: Array, *, clipped: bool = True) -> Array:
        gates, clip = self.stage.attr("gates"), self.stage.attr("clip")
        assert isinstance(gates, tuple)
        gate = gates[number]
        assert isinstance(gate, tuple)
        if isinstance(clip, float) and clipped:
            x = np.clip(x, -clip, clip)
        return FUNCTIONS[str(gate[0])](x, *(float(str(number)) for number in gate[1:]))

    def __call__(self, x: Array, h: Array, c: Array | None) -> tuple[Array, Array | None]:
        if self.stage.attr("mode") == "gru":
            return self._gru(x, h), None
        z = x + (h @ self.r + self.bias)
        if c is None:
            return self.act(0, z), None
        i, f, g, o = np.split(z, 4, axis=1)
        i = self.act(0, i + self.peephole[0] * c)
        f = 1 - i if self.stage.attr("input_forget") else self.act(0, f + self.peephole[2] * c)
        c = f * c + i * self.act(1, g)
        return self.act(0, o + self.peephole[1] * c) * self.act(2, c, clipped=False), c

    def _gru(self, x: Array, h: Array) -> Array:
        size = h.shape[1]
        xr, xz, xn = np.split(x, 3, axis=1)
        hr, hz, hn = np.split(h @ self.r + self.bias, 3, axis=1)
        r = self.act(0, xr + hr)
        if self.stage.attr("reset_after"):
            n = self.act(1, xn + r * hn)
        else:
            n = self.act(1, xn + (r * h) @ self.r[:, 2 * size :] + self.bias[2 * size :])
        z = self.act(0, xz + hz)
        return np.asarray((1 - z) * n + z * h)
