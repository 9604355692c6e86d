"""Fourier transforms, short-time transforms, windows and mel filter banks."""

from collections.abc import Mapping
from math import pi
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fusec.importers.onnx.call import Call
from fusec.importers.onnx.ops.support import axis_of, cast_to
from fusec.importers.onnx.table import Op
from fusec.importers.onnx.values import ints, torch_dtype

_FLOAT = 1


def _as_complex(x: Tensor) -> Tensor:
    """[..., 1] real or [..., 2] real and imaginary -> [...], real or complex."""
    if x.shape[-1] == 1:
        return x.squeeze(-1)
    return torch.view_as_complex(x.contiguous())


def _number(value: Any) -> Any:
    """Return the one integer (or symbol of the trace) of a host value."""
    return ints(value)[0]


def _computed(x: Tensor) -> Tensor:
    """FFTs exist for float32 and float64 only; narrower floats are computed in float32."""
    return x if x.dtype in (torch.float32, torch.float64) else cast_to(x, torch.float32)


def _dft(call: Call, x: Tensor, length: Any = None, axis: Any = None) -> Tensor:
    default = call.attr("axis", 1) if call.opset < 20 else -2
    dim = axis_of(call, default if axis is None else _number(axis), x.dim())
    n = None if length is None else _number(length)
    inverse, onesided = bool(call.attr("inverse", 0)), bool(call.attr("onesided", 0))
    if onesided and not inverse and x.shape[-1] != 1:
        call.fail("onesided=1 needs a real signal (last dimension 1)")
    signal = _as_complex(_computed(x))
    if inverse and onesided:
        wave: Tensor = torch.fft.irfft(signal, n=n, dim=dim)
        return cast_to(wave.unsqueeze(-1), x.dtype)
    if inverse:
        out: Tensor = torch.fft.ifft(signal, n=n, dim=dim)
    elif onesided:
        out = torch.fft.rfft(signal, n=n, dim=dim)
    else:
        out = torch.fft.fft(signal, n=n, dim=dim)
    return cast_to(torch.view_as_real(out), x.dtype)


def _stft(
    call: Call, x: Tensor, step: Any, window: Tensor | None = None, length: Any = None
) -> Tensor:
    signal = _computed(x)
    signal = signal if signal.dim() == 2 else _as_complex(signal)
    if length is not None:
        size = _number(length)
    else:
        size = signal.shape[1] if window is None else window.shape[0]
    frames = signal.unfold(1, size, _number(step))
    if window is not None:
        frames = frames * cast_to(window, signal.real.dtype)
    onesided = bool(call.attr("onesided", 1)) and not frames.is_complex()
    out = torch.fft.rfft(frames, dim=-1) if onesided else torch.fft.fft(frames, dim=-1)
    return cast_to(torch.view_as_real(out), x.dtype)


def _window(call: Call, size: Any, coefficients: tuple[float, ...]) -> Tensor:
    """Sum of coefficients[k] * cos(2 pi k n / N), computed in float64."""
    n = _number(size)
    period = n if call.attr("periodic", 1) else n - 1
    phase = torch.arange(n, dtype=torch.float64) * (2 * pi) / period
    total = torch.full_like(phase, coefficients[0])
    for k, c in enumerate(coefficients[1:], start=1):
        total = total + c * torch.cos(k * phase)
    return cast_to(total, torch_dtype(int(call.attr("output_datatype", _FLOAT))))


def _hann(call: Call, size: Any) -> Tensor:
    return _window(call, size, (0.5, -0.5))


def _hamming(call: Call, size: Any) -> Tensor:
    # The standard names 25/46 and 21/46, not the rounded 0.54 and 0.46.
    return _window(call, size, (25.0 / 46.0, -21.0 / 46.0))


def _blackman(call: Call, size: Any) -> Tensor:
    return _window(call, size, (0.42, -0.5, 0.08))


def _mel_edges(bins: int, dft: int, rate: int, low: float, high: float) -> list[int]:
    """Spectrogram bin of each of the bins + 2 filter edges."""
    low_mel, high_mel = (2595 * np.log10(1 + f / 700) for f in (low, high))
    step = (high_mel - low_mel) / (bins + 2)
    mels = low_mel + step * np.arange(bins + 2)
    hertz = 700 * (np.power(10.0, mels / 2595) - 1)
    return [int(v) for v in (dft + 1) * hertz // rate]


def _mel_matrix(call: Call, bins: Any, dft: Any, rate: Any, low: Any, high: Any) -> Tensor:
    count, points = int(_number(bins)), int(_number(dft))
    edges = _mel_edges(count, points, int(_number(rate)), low.item(), high.item())
    out = np.zeros((points // 2 + 1, count))
    for i in range(count):
        left, centre, right = edges[i : i + 3]
        if centre == left:
            out[centre, i] = 1
        for j in range(left, centre + 1 if centre > left else left):
            out[j, i] = (j - left) / (centre - left)
        for j in range(centre, right):
            out[j, i] = (right - j) / (right - centre)
    return cast_to(torch.from_numpy(out), torch_dtype(int(call.attr("output_datatype", _FLOAT))))


OPS: Mapping[str, Op] = {
    "DFT": Op(run=_dft, host=frozenset({1, 2})),
    "STFT": Op(run=_stft, host=frozenset({1, 3})),
    "HannWindow": Op(run=_hann, host=frozenset({0})),
    "HammingWindow": Op(run=_hamming, host=frozenset({0})),
    "BlackmanWindow": Op(run=_blackman, host=frozenset({0})),
    "MelWeightMatrix": Op(run=_mel_matrix, host=frozenset(range(5))),
}
