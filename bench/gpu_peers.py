"""What people do instead on a card: PyTorch one by one, CUDA graphs, streams, a compiled vmap.

All of them copy inputs from pinned memory, run, copy answers back and wait, as `plan.run` does.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from gpu_card import Answers, Card, Inputs
from torch import nn

__all__ = ["PEERS", "Peer"]

Peer = Callable[[Card, Mapping[str, nn.Module], Mapping[str, Inputs]], Callable[[], Answers]]
STREAMS = 8


class _Places:
    """Inputs and outputs of a fleet, on the host and on the card."""

    def __init__(self, card: Card, inputs: Mapping[str, Inputs]) -> None:
        self.host = {
            n: [_pinned(card, torch.from_numpy(np.ascontiguousarray(a))) for a in x]
            for n, x in inputs.items()
        }
        self.card = {n: [t.to(card.device) for t in x] for n, x in self.host.items()}
        self._of = card
        self.out: dict[str, torch.Tensor] = {}

    def enter(self, name: str) -> None:
        """Copy a member's inputs to the card."""
        for there, here in zip(self.card[name], self.host[name], strict=True):
            there.copy_(here, non_blocking=True)

    def leave(self, name: str, answer: torch.Tensor) -> None:
        """Copy its answer back."""
        if name not in self.out:
            self.out[name] = _pinned(self._of, torch.empty(answer.shape, dtype=answer.dtype))
        self.out[name].copy_(answer, non_blocking=True)

    def answers(self) -> Answers:
        """Give them, once everything has run."""
        return {n: t.numpy() for n, t in self.out.items()}


def eager(
    card: Card, models: Mapping[str, nn.Module], inputs: Mapping[str, Inputs]
) -> Callable[[], Answers]:
    """Run one model after the other."""
    places, there = _Places(card, inputs), _moved(card, models)
    return _in_turn(card, places, {n: partial(m, *places.card[n]) for n, m in there.items()})


def graphs(
    card: Card, models: Mapping[str, nn.Module], inputs: Mapping[str, Inputs]
) -> Callable[[], Answers]:
    """Replay a graph of each model, one after the other."""
    places, there = _Places(card, inputs), _moved(card, models)
    calls = {n: _captured(card, m, places.card[n]) for n, m in there.items()}
    return _in_turn(card, places, calls)


def graphs_on_streams(
    card: Card, models: Mapping[str, nn.Module], inputs: Mapping[str, Inputs]
) -> Callable[[], Answers]:
    """Replay a graph of each model, on eight streams."""
    if card.dry:
        return graphs(card, models, inputs)
    places, there = _Places(card, inputs), _moved(card, models)
    calls = {n: _captured(card, m, places.card[n]) for n, m in there.items()}
    streams = [_stream() for _ in range(STREAMS)]

    def run() -> Answers:
        for i, (name, call) in enumerate(calls.items()):
            with torch.cuda.stream(streams[i % STREAMS]):
                places.enter(name)
                places.leave(name, call())
        card.synchronize()
        return places.answers()

    return run


def compiled_vmap(
    card: Card, models: Mapping[str, nn.Module], inputs: Mapping[str, Inputs]
) -> Callable[[], Answers]:
    """Run all of them as one: `torch.func.vmap` over stacked weights, compiled, in a graph."""
    there = _moved(card, models)
    weights, buffers = torch.func.stack_module_state(list(there.values()))
    base = next(iter(there.values()))
    host = [
        _pinned(card, torch.from_numpy(np.stack([x[i] for x in inputs.values()])))
        for i in range(len(next(iter(inputs.values()))))
    ]
    onto = [t.to(card.device) for t in host]

    def one(w: Any, b: Any, *x: torch.Tensor) -> Any:
        return torch.func.functional_call(base, (w, b), x)

    function: Any = torch.vmap(one)
    if not card.dry:
        function = torch.compile(function)
    answer: dict[str, torch.Tensor] = {}
    with torch.no_grad():
        call = _captured(card, lambda *x: function(weights, buffers, *x), onto)

    def run() -> Answers:
        for a, b in zip(onto, host, strict=True):
            a.copy_(b, non_blocking=True)
        out = call()
        if "out" not in answer:
            answer["out"] = _pinned(card, torch.empty(out.shape, dtype=out.dtype))
        answer["out"].copy_(out, non_blocking=True)
        card.synchronize()
        return dict(zip(models, answer["out"].numpy(), strict=True))

    return run


PEERS: Mapping[str, Peer] = {
    "torch one by one": eager,
    "a CUDA graph each, in turn": graphs,
    "CUDA graphs on 8 streams": graphs_on_streams,
    "compiled vmap in a graph": compiled_vmap,
}


def _in_turn(
    card: Card, places: _Places, calls: Mapping[str, Callable[[], torch.Tensor]]
) -> Callable[[], Answers]:
    @torch.no_grad()
    def run() -> Answers:
        for name, call in calls.items():
            places.enter(name)
            places.leave(name, call())
        card.finish()
        return places.answers()

    return run


def _captured(
    card: Card, call: Callable[..., torch.Tensor], inputs: list[torch.Tensor]
) -> Callable[[], torch.Tensor]:
    """Record a call; give what runs it again."""
    if card.dry:
        return torch.no_grad()(partial(call, *inputs))
    side = _stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.no_grad(), torch.cuda.stream(side):
        for _ in range(3):
            call(*inputs)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.no_grad(), torch.cuda.graph(graph):
        out = call(*inputs)

    def again() -> torch.Tensor:
        graph.replay()
        return out

    return again


def _stream() -> Any:
    return torch.cuda.Stream()  # type: ignore[no-untyped-call]


def _moved(card: Card, models: Mapping[str, nn.Module]) -> dict[str, nn.Module]:
    return {n: copy.deepcopy(m).to(card.device) for n, m in models.items()}


def _pinned(card: Card, tensor: torch.Tensor) -> torch.Tensor:
    return tensor if card.dry else tensor.pin_memory()
