"""Random modules: steps over earlier values, whose shapes are learnt by running them."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from random import Random

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["RandomNet", "random_net", "with_other_weights"]

Step = Callable[[Random, Tensor], "nn.Module | None"]

_LARGEST = 4000
"""Elements of a value."""


class Call(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class Join(nn.Module):
    """Two values joined."""

    HOW = ("add", "mul", "maximum", "sub", "where", "cat")

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        if self.how == "cat":
            return torch.cat([a, b], 1)
        if self.how == "where":
            return torch.where(a > b, a, b * 0.5)
        return getattr(torch, self.how)(a, b)


class Parameter(nn.Module):
    """Arithmetic with a parameter that broadcasts."""

    def __init__(self, shape: Sequence[int], how: str) -> None:
        super().__init__()
        self.weight, self.how = nn.Parameter(torch.randn(*shape)), how

    def forward(self, x: Tensor) -> Tensor:
        if self.how == "div":
            return x / (self.weight.abs() + 1)
        return getattr(torch, self.how)(x, self.weight)


class Attention(nn.Module):
    """Heads over few or as many keys, masked in one of several ways."""

    def __init__(self, r: Random, steps: int, size: int) -> None:
        super().__init__()
        self.heads = r.choice([h for h in (1, 2, 3, 4) if size % h == 0])
        self.kv = r.choice([k for k in (1, 2, 4) if self.heads % k == 0])
        self.mask = r.choice(["none", "causal", "bias", "padding", "by hand"])
        self.size = size // self.heads
        self.q, self.o = nn.Linear(size, size), nn.Linear(size, size)
        self.k, self.v = (nn.Linear(size, self.kv * self.size) for _ in range(2))
        self.bias = nn.Parameter(torch.randn(1, self.heads, steps, steps))

    def forward(self, x: Tensor) -> Tensor:
        def apart(y: Tensor, heads: int) -> Tensor:
            return y.view(*x.shape[:2], heads, self.size).transpose(1, 2)

        q = apart(self.q(x), self.heads)
        k, v = (apart(layer(x), self.kv) for layer in (self.k, self.v))
        if self.mask == "by hand":
            k, v = (y.repeat_interleave(self.heads // self.kv, 1) for y in (k, v))
            scores = q @ k.transpose(-1, -2) / math.sqrt(self.size)
            hidden = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
            y = scores.masked_fill(hidden, -math.inf).softmax(-1) @ v
        else:
            mask = {"bias": self.bias, "padding": (x[..., 0] > -5)[:, None, None, :]}
            y = F.scaled_dot_product_attention(
                q, k, v, mask.get(self.mask), is_causal=self.mask == "causal", enable_gqa=True
            )
        return self.o(y.transpose(1, 2).flatten(2))


class Recurrent(nn.Module):
    """The outputs, or the last state, of a recurrent layer."""

    def __init__(self, r: Random, size: int) -> None:
        super().__init__()
        kind = r.choice([nn.LSTM, nn.GRU, nn.RNN])
        self.layer = kind(
            size, r.choice([1, 5, 16]), r.choice([1, 2]), batch_first=True,
            bidirectional=r.random() < 0.4, bias=r.random() < 0.8,
        )  # fmt: skip
        self.whole = r.random() < 0.6

    def forward(self, x: Tensor) -> Tensor:
        y, state = self.layer(x)
        if self.whole:
            return y
        state = state[0] if isinstance(state, tuple) else state
        return state.transpose(0, 1).flatten(1)


class RandomNet(nn.Module):
    """Steps over values; each reads one or two earlier ones."""

    def __init__(self, steps: Sequence[nn.Module], reads: Sequence[tuple[int, ...]]) -> None:
        super().__init__()
        self.steps, self.reads = nn.ModuleList(steps), tuple(reads)
        used = {i for read in reads for i in read}
        self.results = [i for i in range(1, len(steps) + 1) if i not in used][-3:]

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        values = [x]
        for step, read in zip(self.steps, self.reads, strict=True):
            values.append(step(*(values[i] for i in read)))
        return tuple(values[i] for i in self.results)


ACTIVATIONS = (
    nn.ELU, nn.Hardshrink, nn.Hardsigmoid, nn.Hardtanh, nn.Hardswish, nn.LeakyReLU, nn.LogSigmoid,
    nn.PReLU, nn.ReLU, nn.ReLU6, nn.RReLU, nn.SELU, nn.CELU, nn.GELU, nn.Sigmoid, nn.SiLU, nn.Mish,
    nn.Softplus, nn.Softshrink, nn.Softsign, nn.Tanh, nn.Tanhshrink,
)  # fmt: skip

FUNCTIONS: tuple[Callable[[Tensor], Tensor], ...] = (
    torch.abs, torch.sin, torch.erf, torch.square, torch.neg, torch.cos, torch.exp2,
    lambda x: torch.exp(x.clamp(max=3)), lambda x: torch.sqrt(x.abs() + 1e-3),
    lambda x: torch.log1p(x.abs()), lambda x: (x.abs() + 0.1) ** 0.7, lambda x: 1 / (x.abs() + 1),
    lambda x: torch.where(x > 0.1, x, x * 0.1), lambda x: x.masked_fill(x < -0.5, -0.5),
    lambda x: torch.lerp(x, -x, 0.3), lambda x: x * ((x > 0) & (x < 1)).to(x.dtype),
    lambda x: F.normalize(x, dim=-1), lambda x: x / torch.sqrt(x.var(1, False, True) + 1e-2),
)  # fmt: skip


def _axis(r: Random, x: Tensor) -> int:
    return r.randrange(1, x.ndim)


def _activation(r: Random, x: Tensor) -> nn.Module:
    return r.choice(ACTIVATIONS)()


def _function(r: Random, x: Tensor) -> nn.Module:
    return Call(r.choice(FUNCTIONS))


def _linear(r: Random, x: Tensor) -> nn.Module:
    return nn.Linear(x.shape[-1], r.choice([1, 3, 16, 17, 33, 64, 70]), bias=r.random() < 0.7)


def _norm(r: Random, x: Tensor) -> nn.Module:
    channels = x.shape[1]
    kinds: list[Callable[[], nn.Module]] = [
        lambda: nn.LayerNorm(x.shape[-1], elementwise_affine=r.random() < 0.8),
        lambda: nn.RMSNorm(x.shape[-1]),
        lambda: (nn.BatchNorm1d if x.ndim < 4 else nn.BatchNorm2d)(channels),
    ]
    if x.ndim > 2 and math.prod(x.shape[2:]) > 1:
        groups = r.choice([g for g in range(1, channels + 1) if channels % g == 0])
        kinds.append(lambda: nn.GroupNorm(groups, channels))
        kinds.append(lambda: (nn.InstanceNorm1d if x.ndim == 3 else nn.InstanceNorm2d)(channels))
    return r.choice(kinds)()


def _parameter(r: Random, x: Tensor) -> nn.Module:
    shape = [r.choice([1, d]) for d in x.shape[1:]]
    return Parameter(shape, r.choice(["add", "mul", "sub", "div", "maximum"]))


def _moved(r: Random, x: Tensor) -> nn.Module:
    axis, n = _axis(r, x), math.prod(x.shape[1:])
    axes = list(range(1, x.ndim))
    r.shuffle(axes)
    rows = r.choice([k for k in range(1, n + 1) if n % k == 0])
    first, step = r.randrange(x.shape[axis]), r.choice([1, 2])
    places = torch.tensor([r.randrange(x.shape[axis]) for _ in range(3)])
    shift, before, behind = r.randrange(-3, 4), r.randrange(3), r.randrange(3)
    pads = [0] * (2 * (x.ndim - 1 - axis)) + [before, behind]
    choices: list[Callable[[Tensor], Tensor]] = [
        lambda x: x.permute(0, *axes), lambda x: x.reshape(-1, rows, n // rows),
        lambda x: x[(slice(None),) * axis + (slice(first, None, step),)],
        lambda x: x.flip(axis), lambda x: x.roll(shift, axis), lambda x: F.pad(x, pads),
        lambda x: x.index_select(axis, places), lambda x: torch.stack([x, x * 2], axis),
        lambda x: torch.cat(x.split(first + 1, axis)[::-1], axis),
        lambda x: torch.cat([x, x.narrow(axis, 0, 1)], axis), lambda x: x.unsqueeze(axis),
        lambda x: x.repeat_interleave(2, axis), lambda x: x.flatten(1), lambda x: x.tril(shift),
    ]  # fmt: skip
    return Call(r.choice(choices))


def _reduced(r: Random, x: Tensor) -> nn.Module:
    axis, k, keep = _axis(r, x), r.randrange(1, 3), x.ndim < 3 or r.random() < 0.5
    choices: list[Callable[[Tensor], Tensor]] = [
        lambda x: x.softmax(axis), lambda x: x.log_softmax(axis), lambda x: x.cumsum(axis) * 0.3,
        lambda x: x.sum(axis, keep), lambda x: x.mean(axis, keep), lambda x: x.amax(axis, keep),
        lambda x: x.logsumexp(axis, keep), lambda x: x.topk(k, axis).values,
        lambda x: x.sort(axis, descending=True).values, lambda x: x.std(axis, True, keepdim=keep),
        lambda x: x.gather(axis, x.argmax(axis, keepdim=True)),
        lambda x: torch.linalg.vector_norm(x, 2, axis, keep),
    ]  # fmt: skip
    return Call(r.choice(choices))


def _embedded(r: Random, x: Tensor) -> nn.Module:
    return nn.Sequential(
        Call(lambda x: (x.sigmoid() * 6.9).long()), nn.Embedding(7, r.choice([3, 8, 17]))
    )


def _sequence(r: Random, x: Tensor) -> nn.Module:
    steps, size = x.shape[1:]
    head = r.choice([h for h in (1, 2, 3) if size % h == 0])
    choices: list[Callable[[], nn.Module]] = [
        lambda: Attention(r, steps, size),
        lambda: Recurrent(r, size),
        lambda: nn.TransformerEncoderLayer(
            size, head, 20, batch_first=True, norm_first=r.random() < 0.5, dropout=0.0
        ),
        lambda: Call(lambda x: x @ x.transpose(1, 2)),
        lambda: Call(lambda x: torch.einsum("b...i,b...j->b...ij", x[:, 0], x[:, -1])),
    ]
    return r.choice(choices)()


def _convolution(r: Random, x: Tensor) -> nn.Module:
    n, channels = x.ndim - 2, x.shape[1]
    groups = r.choice([1, 1, channels, *(g for g in range(2, channels) if channels % g == 0)])
    out = groups * r.choice([1, 2]) if groups > 1 else r.choice([1, 4, 16, 17])
    kernel, stride, dilation = r.choice([1, 2, 3, 5]), r.choice([1, 1, 2, 3]), r.choice([1, 1, 2])
    if r.random() < 0.25:
        turned = (nn.ConvTranspose1d, nn.ConvTranspose2d)[n - 1]
        return turned(channels, out, kernel, stride, r.randrange(kernel), 0, groups)
    mode = r.choice(["zeros", "zeros", "zeros", "reflect", "replicate", "circular"])
    plain = (nn.Conv1d, nn.Conv2d)[n - 1]
    return plain(
        channels, out, kernel, stride, r.randrange(4), dilation, groups, r.random() < 0.6, mode
    )


def _pool(r: Random, x: Tensor) -> nn.Module:
    n, kernel, stride = x.ndim - 2, r.choice([1, 2, 3]), r.choice([1, 2, 3])
    padding, ceil = r.randrange(kernel // 2 + 1), r.random() < 0.4
    include, size = r.random() < 0.5, r.choice([1, 2, 5])
    choices: list[Callable[[], nn.Module]] = [
        lambda: (nn.MaxPool1d, nn.MaxPool2d)[n - 1](kernel, stride, padding, ceil_mode=ceil),
        lambda: (nn.AvgPool1d, nn.AvgPool2d)[n - 1](kernel, stride, padding, ceil, include),
        lambda: (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d)[n - 1](size),
        lambda: nn.Upsample(scale_factor=r.choice([2, 1.5]), mode=r.choice(
            ["nearest", ("linear", "bilinear")[n - 1]])),
    ]  # fmt: skip
    return r.choice(choices)()


STEPS: tuple[Step, ...] = (
    _activation, _activation, _function, _linear, _linear, _norm, _parameter, _moved, _moved,
    _reduced, _embedded,
)  # fmt: skip
SPATIAL: tuple[Step, ...] = (_convolution, _convolution, _convolution, _pool)
SHAPES = ((7,), (33,), (5, 12), (13, 16), (8, 1), (3, 8, 9), (4, 12, 5), (16, 1, 7))


def random_net(r: Random) -> tuple[RandomNet, tuple[int, ...]]:
    """Draw a module, and the shape of a sample that it takes."""
    torch.manual_seed(r.randrange(1 << 30))
    shape = r.choice(SHAPES)
    values, steps, reads = [torch.randn(2, *shape)], list[nn.Module](), list[tuple[int, ...]]()
    wanted = r.choice([1, 2, 3, 5, 8])
    while len(steps) < wanted:
        first = len(values) - 1 if r.random() < 0.85 else r.randrange(len(values))
        x = values[first]
        read: tuple[int, ...] = (first,)
        if r.random() < 0.2:
            step: nn.Module = Join(r.choice(Join.HOW))
            read = (first, r.randrange(len(values)))
        else:
            more = SPATIAL * 3 if x.ndim in (3, 4) else ()
            made = r.choice([*STEPS, *more, *([_sequence] * 5 if x.ndim == 3 else [])])
            step = _made(made, r, x)
        y = _run(step, [values[i] for i in read])
        if y is not None:
            steps.append(step.eval())
            reads.append(read)
            values.append(y)
    return RandomNet(steps, reads).eval(), shape


def _made(step: Step, r: Random, x: Tensor) -> nn.Module:
    try:
        return step(r, x) or nn.Identity()
    except (ValueError, RuntimeError):
        return nn.Identity()


def _run(step: nn.Module, given: list[Tensor]) -> Tensor | None:
    """Run a step; None where it does not fit, or gives nothing to go on with."""
    try:
        with torch.no_grad():
            y = step.eval()(*given)
    except (RuntimeError, ValueError, IndexError):
        return None
    usable = isinstance(y, Tensor) and 2 <= y.ndim <= 4 and y.shape[0] == 2 and y.numel() > 0
    if not usable or y.numel() > 2 * _LARGEST or not bool((y.abs() < 1e4).all()):
        return None
    return y


def with_other_weights(net: RandomNet, seed: int) -> RandomNet:
    """Copy a module with parameters and statistics of its own."""
    other, g = copy.deepcopy(net), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in other.parameters():
            p.add_(torch.randn(p.shape, generator=g) * 0.1)
        for name, buffer in other.named_buffers():
            if name.endswith(("running_mean", "running_var")):
                buffer.copy_(torch.rand(buffer.shape, generator=g) + 0.2)
    return other.eval()
