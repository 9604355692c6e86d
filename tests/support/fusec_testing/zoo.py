"""Small models of the kinds that people serve, each with example inputs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import nn

Case = tuple[nn.Module, tuple[torch.Tensor, ...]]


def mlp() -> Case:
    """Three layers with dropout."""
    layers = [nn.Flatten(), nn.Linear(48, 32), nn.ReLU(), nn.Dropout(), nn.Linear(32, 5)]
    return nn.Sequential(*layers, nn.Softmax(-1)), (torch.randn(1, 3, 4, 4),)


def _warm(module: nn.Module) -> nn.Module:
    """Give norms an affine and statistics that are not 1 and 0."""
    for layer in module.modules():
        if isinstance(layer, nn.LayerNorm | nn.GroupNorm):
            nn.init.uniform_(layer.weight, 0.5, 2.0)
        if isinstance(layer, nn.modules.batchnorm._BatchNorm) and layer.running_mean is not None:
            layer.running_mean.normal_()
            layer.running_var.uniform_(0.5, 2.0)
            nn.init.uniform_(layer.weight, 0.5, 2.0)
    for name, parameter in module.named_parameters():
        # As if trained: nothing is 0 or equal, which exporters would notice.
        if name.endswith("bias"):
            nn.init.normal_(parameter)
        elif parameter.dim() > 1:
            parameter.data += 0.01 * torch.randn_like(parameter)
    return module


def cnn() -> Case:
    """Convolution, batch norm, relu, pooling, head."""
    layers = [
        nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(inplace=True),
        nn.MaxPool2d(2), nn.Conv2d(8, 12, 3), nn.BatchNorm2d(12), nn.LeakyReLU(0.1),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 4), nn.BatchNorm1d(4),
    ]  # fmt: skip
    return _warm(nn.Sequential(*layers)), (torch.randn(1, 3, 12, 12),)


class _Residual(nn.Module):
    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.body(x)


def mobilenet() -> Case:
    """An inverted residual with a squeeze-and-excite gate."""

    class Gate(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.down, self.up = nn.Conv2d(16, 4, 1), nn.Conv2d(4, 16, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            pooled = F.avg_pool2d(x, (x.shape[2], x.shape[3]))
            return x * F.hardsigmoid(self.up(F.relu6(self.down(pooled))))

    body = nn.Sequential(
        nn.Conv2d(4, 16, 1, bias=False), nn.BatchNorm2d(16), nn.Hardswish(),
        nn.Conv2d(16, 16, 3, padding=1, groups=16, bias=False), nn.BatchNorm2d(16), nn.ReLU6(),
        Gate(), nn.Conv2d(16, 4, 1, bias=False), nn.BatchNorm2d(4),
    )  # fmt: skip
    return _warm(_Residual(body)), (torch.randn(1, 4, 8, 8),)


def unet() -> Case:
    """One level down and up with a skip connection."""

    class Unet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Sequential(nn.Conv2d(2, 6, 3, padding="same"), nn.BatchNorm2d(6))
            self.down = nn.Conv2d(6, 8, 3, stride=2, padding=1)
            self.norm = nn.GroupNorm(2, 8)
            self.up = nn.ConvTranspose2d(8, 6, 2, stride=2)
            self.last = nn.Conv2d(12, 1, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            skip = F.relu(self.first(x))
            inner = F.silu(self.norm(self.down(skip)))
            inner = F.interpolate(inner, scale_factor=2.0, mode="bilinear")[:, :, ::2, ::2]
            return torch.sigmoid(self.last(torch.cat([skip, self.up(inner)], 1)))

    return _warm(Unet()), (torch.randn(1, 2, 8, 8),)


def encoder_torch() -> Case:
    """PyTorch's own encoder layer, norm first."""
    layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True, norm_first=True)
    return _warm(nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)), (
        torch.randn(1, 7, 16),
    )


class Encoder(nn.Module):
    """A post-norm encoder layer spelled out, as exporters write it."""

    def __init__(self, d: int = 16, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v, self.o = (nn.Linear(d, d) for _ in range(4))
        self.up, self.down = nn.Linear(d, 2 * d), nn.Linear(2 * d, d)
        self.first, self.second = nn.LayerNorm(d), nn.LayerNorm(d)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map [1, tokens, d] to [1, tokens, d]."""
        x = self.norm(self.first, x + self.attend(x))
        return self.norm(self.second, x + self.down(self.act(self.up(x))))

    def split(self, y: torch.Tensor) -> torch.Tensor:
        """Give [1, heads, tokens, d / heads]."""
        return y.view(1, -1, self.heads, y.shape[-1] // self.heads).transpose(1, 2)

    def attend(self, x: torch.Tensor) -> torch.Tensor:
        """Attention through torch's operator."""
        q, k, v = (self.split(f(x)) for f in (self.q, self.k, self.v))
        y = F.scaled_dot_product_attention(q, k, v)
        return self.o(y.transpose(1, 2).reshape(1, -1, x.shape[-1]))

    def act(self, x: torch.Tensor) -> torch.Tensor:
        """GELU through torch's operator."""
        return F.gelu(x)

    def norm(self, layer: nn.LayerNorm, x: torch.Tensor) -> torch.Tensor:
        """Layer norm through torch's operator."""
        return layer(x)


class EncoderByHand(Encoder):
    """The same in primitives."""

    def attend(self, x: torch.Tensor) -> torch.Tensor:
        """Attention as matmul, softmax, matmul."""
        q, k, v = (
            torch.matmul(x, f.weight.t()).add(f.bias).view(1, -1, self.heads, 4).permute(0, 2, 1, 3)
            for f in (self.q, self.k, self.v)
        )
        scores = torch.matmul(q, k.transpose(-2, -1)) / math.sqrt(4)
        y = torch.matmul(torch.softmax(scores, dim=-1), v)
        y = y.permute(0, 2, 1, 3).contiguous().flatten(2)
        return torch.matmul(y, self.o.weight.t()) + self.o.bias

    def act(self, x: torch.Tensor) -> torch.Tensor:
        """GELU as erf."""
        return x * 0.5 * (1.0 + torch.erf(x / 1.41421356237))

    def norm(self, layer: nn.LayerNorm, x: torch.Tensor) -> torch.Tensor:
        """Layer norm as mean, power, root."""
        mean = x.mean(-1, keepdim=True)
        var = (x - mean).pow(2).mean(-1, keepdim=True)
        return layer.weight * ((x - mean) / (var + layer.eps).sqrt()) + layer.bias


def encoder() -> Case:
    """A post-norm encoder through torch's operators."""
    return _warm(Encoder()), (torch.randn(1, 7, 16),)


def encoder_by_hand() -> Case:
    """A post-norm encoder in primitives."""
    return _warm(EncoderByHand()), (torch.randn(1, 7, 16),)


def tagger() -> Case:
    """Embedding, two-way LSTM, linear."""

    class Tagger(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(50, 8)
            self.rnn = nn.LSTM(8, 6, bidirectional=True, batch_first=True)
            self.head = nn.Linear(12, 5)

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            return F.log_softmax(self.head(self.rnn(self.embed(ids))[0]), dim=-1)

    return Tagger(), (torch.randint(0, 50, (1, 9)),)


def decoder() -> Case:
    """Rotary embedding, RMS norm, gated feed-forward, causal attention with fewer key heads."""

    class Decoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.g = nn.Parameter(torch.rand(16) + 0.5)
            self.qkv, self.o = nn.Linear(16, 32, bias=False), nn.Linear(16, 16, bias=False)
            self.gate, self.up = nn.Linear(16, 24, bias=False), nn.Linear(16, 24, bias=False)
            self.down = nn.Linear(24, 16, bias=False)

        def norm(self, x: torch.Tensor) -> torch.Tensor:
            return self.g * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6))

        def turn(self, x: torch.Tensor) -> torch.Tensor:
            angle = torch.arange(x.shape[2])[:, None] * torch.tensor([1.0, 0.1])
            cos, sin = (f(angle).repeat(1, 2) for f in (torch.cos, torch.sin))
            a, b = x.chunk(2, -1)
            return x * cos + torch.cat([-b, a], -1) * sin

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            t = x.shape[1]
            q, k, v = self.qkv(self.norm(x)).split([16, 8, 8], -1)
            q, k, v = (y.view(1, t, -1, 4).transpose(1, 2) for y in (q, k, v))
            k, v = (y.repeat_interleave(2, 1) for y in (k, v))
            mask = torch.full((t, t), float("-inf")).triu(1)
            scores = self.turn(q) @ self.turn(k).transpose(2, 3) / 2 + mask
            y = (torch.softmax(scores, -1) @ v).transpose(1, 2).reshape(1, t, 16)
            x = x + self.o(y)
            z = self.norm(x)
            return x + self.down(F.silu(self.gate(z)) * self.up(z))

    return Decoder(), (torch.randn(1, 6, 16),)


def convnext() -> Case:
    """Depthwise convolution, channels-last norm, pointwise layers, layer scale."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.depth = nn.Conv2d(6, 6, 7, padding=3, groups=6)
            self.norm = nn.LayerNorm(6, eps=1e-6)
            self.up, self.down = nn.Linear(6, 24), nn.Linear(24, 6)
            self.scale = nn.Parameter(torch.rand(6))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.norm(self.depth(x).permute(0, 2, 3, 1))
            y = self.scale * self.down(F.gelu(self.up(y)))
            return x + y.permute(0, 3, 1, 2)

    return _warm(Block()), (torch.randn(1, 6, 8, 8),)


ZOO: Mapping[str, Callable[[], Case]] = {
    f.__name__: f
    for f in (
        mlp, cnn, mobilenet, unet, encoder_torch, encoder, encoder_by_hand, tagger, decoder,
        convnext,
    )
}  # fmt: skip
