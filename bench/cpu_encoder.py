"""Eight fine-tunes of one sentence encoder, a request each, every request of another length."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping

import harness
import minilm
import numpy as np
import peers
import sessions
import torch

BENCH = "encoder"
LENGTHS = (31, 5, 128, 12, 64, 20, 96, 47)
ALL = f"{len(LENGTHS)} MiniLM, {min(LENGTHS)} to {max(LENGTHS)} tokens"
SMOKE = "2 tiny encoders"
AXES: Mapping[str, Mapping[int, str]] = {
    "input_ids": {1: "tokens"},
    "attention_mask": {1: "tokens"},
}


def cases(smoke: bool) -> Iterable[str]:
    """Name the only case."""
    return (SMOKE,) if smoke else (ALL,)


def setup(case: str, threads: int) -> harness.Setup:
    """Make the fine-tunes and the requests."""
    tiny = case == SMOKE
    vocabulary = 50 if tiny else 30000
    first = minilm.Sentence(1, 16, 2, 50).eval() if tiny else minilm.sentence_model()
    lengths = LENGTHS[:2] if tiny else LENGTHS
    members = {f"tune{n}": minilm.fine_tune(first, n) for n in range(len(lengths))}
    inputs = {name: _request(n, vocabulary) for name, n in zip(members, lengths, strict=True)}
    symbols = {
        name: {axis: (symbol, 2, 512) for axis, symbol in axes.items()}
        for name, axes in AXES.items()
    }
    plans = peers.Plans(members, _request(16, vocabulary), threads, symbols)
    examples = {name: _request(16, vocabulary) for name in members}
    contents = sessions.exported(members, examples, AXES)
    setup = peers.side_by_side(
        members,
        plans,
        contents,
        inputs,
        stackable=False,
        torch_executors=False,
        compilers=False,
        axis={"tokens": float(np.mean(lengths))},
    )
    return setup


def _request(length: int, vocabulary: int) -> tuple[torch.Tensor, torch.Tensor]:
    tokens = torch.randint(0, vocabulary, (1, length))
    return tokens, torch.ones(1, length, dtype=torch.int64)


if __name__ == "__main__":
    harness.main(sys.modules[__name__])
