"""Recurrent functions of torch as `fusec::rnn`, swapped in while a model is traced.

Plain export pins the sequence length of an LSTM and unrolls it. `RnnMode` answers the functions
that `nn.LSTM`, `nn.GRU`, `nn.RNN` and their cells call with one `fusec::rnn` per layer and
direction.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

import fusec.kernels.rnn.op  # noqa: F401  (defines torch.ops.fusec.rnn)
from fusec.ir.errors import ConfigError, ImportFailed

__all__ = ["RnnCheck", "RnnMode"]

# Function name -> mode and activation names; an empty list stands for the defaults.
LAYERS: dict[str, tuple[str, list[str]]] = {
    "lstm": ("lstm", []),
    "gru": ("gru", []),
    "rnn_tanh": ("rnn", []),
    "rnn_relu": ("rnn", ["relu"]),
}
CELLS: dict[str, tuple[str, list[str]]] = {f"{name}_cell": row for name, row in LAYERS.items()}


class RnnMode(TorchFunctionMode):
    """While entered, recurrent torch functions become `fusec::rnn`."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Answer a torch function call."""
        name = getattr(func, "__name__", "").partition(".")[0]
        if name in LAYERS and _is_torch(func):
            return _layer(name, *args, **(kwargs or {}))
        if name in CELLS and _is_torch(func):
            return _cell(name, *args, **(kwargs or {}))
        if name == "_pack_padded_sequence":
            raise ImportFailed(_PACKED)
        return func(*args, **(kwargs or {}))


class RnnCheck(TorchFunctionMode):
    """While entered, operators that can bring the process down check what they are given.

    Recurrent layers check the rows of their state: the layer modules do so themselves, but an
    exported program calls the operator, which reads beyond a state of too few rows. Eigenvalues are
    not asked of NaN, with which rows are probed: torch checks in `eig`, and not in `eigvals`.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Check, then call as usual."""
        name = getattr(func, "__name__", "").partition(".")[0]
        if name in LAYERS and _is_torch(func) and len(args) == 9 and isinstance(args[3], bool):
            states = [args[1]] if isinstance(args[1], Tensor) else args[1]
            rows = args[0].shape[0 if args[8] else 1]
            for state in states:
                if state.shape[1] != rows:
                    raise ConfigError(f"{name} has a state of {state.shape[1]} rows for {rows}")
        if name == "linalg_eigvals" and args and not bool(args[0].isfinite().all()):
            raise ConfigError(f"{name} has no answer for NaN and infinity")
        return func(*args, **(kwargs or {}))


_PACKED = (
    "a PackedSequence cannot be imported: its layout depends on the lengths of all rows; pass "
    "padded tensors, one row at a time"
)


def _is_torch(func: object) -> bool:
    if isinstance(func, torch._ops.OpOverload | torch._ops.OpOverloadPacket):
        return str(func).startswith("aten")
    return getattr(func, "__module__", None) == "torch" or hasattr(func, "__self__")


def _layer(
    name: str,
    x: Tensor,
    hx: Tensor | Sequence[Tensor],
    params: Sequence[Tensor],
    has_biases: bool | Sequence[Tensor],
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[Tensor, ...]:
    if not isinstance(has_biases, bool):
        raise ImportFailed(_PACKED)
    if train and dropout > 0 and num_layers > 1:
        raise ImportFailed(f"{name}: dropout {dropout} in training mode; call model.eval() first")
    mode, activations = LAYERS[name]
    sides = 2 if bidirectional else 1
    each = 4 if has_biases else 2
    if len(params) != each * sides * num_layers:
        raise ImportFailed(f"{name}: proj_size > 0 cannot be imported; use a layer without it")
    h0 = hx if isinstance(hx, Tensor) else hx[0]
    c0 = None if isinstance(hx, Tensor) else hx[1]
    y = x.transpose(0, 1) if batch_first else x
    last: list[tuple[Tensor, Tensor]] = []
    for layer in range(num_layers):
        outputs: list[Tensor] = []
        for side in range(sides):
            at = layer * sides + side
            result, h, c = _call(
                y,
                params[each * at : each * (at + 1)],
                h0[at],
                None if c0 is None else c0[at],
                mode=mode,
                reverse=side == 1,
                activations=activations,
            )
            outputs.append(result)
            last.append((h, c))
        y = outputs[0] if sides == 1 else torch.cat(outputs, dim=2)
    h_n = torch.stack([h for h, _ in last])
    y = y.transpose(0, 1) if batch_first else y
    return (y, h_n) if c0 is None else (y, h_n, torch.stack([c for _, c in last]))


def _cell(
    name: str,
    x: Tensor,
    hx: Tensor | Sequence[Tensor],
    w: Tensor,
    r: Tensor,
    b_input: Tensor | None = None,
    b_hidden: Tensor | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    mode, activations = CELLS[name]
    h0 = hx if isinstance(hx, Tensor) else hx[0]
    c0 = None if isinstance(hx, Tensor) else hx[1]
    params = [w, r] if b_input is None or b_hidden is None else [w, r, b_input, b_hidden]
    _, h, c = _call(
        x.unsqueeze(0), params, h0, c0, mode=mode, reverse=False, activations=activations
    )
    return h if c0 is None else (h, c)


def _call(
    x: Tensor,
    params: Sequence[Tensor],
    h0: Tensor,
    c0: Tensor | None,
    *,
    mode: str,
    reverse: bool,
    activations: list[str],
) -> tuple[Tensor, Tensor, Tensor]:
    bias = None if len(params) == 2 else torch.stack([params[2], params[3]])
    result: tuple[Tensor, Tensor, Tensor] = torch.ops.fusec.rnn(
        x,
        params[0],
        params[1],
        bias,
        h0,
        c0,
        None,
        None,
        mode=mode,
        reverse=reverse,
        activations=activations,
        alpha=[],
        beta=[],
        clip=None,
        reset_after=True,
        input_forget=False,
    )
    return result
