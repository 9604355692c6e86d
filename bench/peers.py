"""The implementations that benches compare, each with inputs bound to it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping

import numpy as np
import torch
from given import Given, Inputs, Models, Sources, arguments
from harness import Impl, Outputs, Setup, Took
from sessions import onnxruntime_sessions, openvino_models
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import fusec
from fusec.runtime.roofline import Reader

LIMIT = "limit: weights read once"
_PASSES = 4


def by_position(names: list[str]) -> Callable[[object], Outputs]:
    """Return a reader of results that are a list or a stacked tensor in the order of `names`."""

    def read(result: object) -> Outputs:
        return {name: np.asarray(value) for name, value in zip(names, result, strict=True)}  # type: ignore[call-overload]

    return read


def of_plan(result: object) -> Outputs:
    """Return the first output of every member from what a plan answered."""
    assert isinstance(result, Mapping)
    return {name: np.asarray(next(iter(outputs.values()))) for name, outputs in result.items()}


def truth_of(models: Models, inputs: Inputs) -> Outputs:
    """Return the answers in float64, one model after the other."""
    answers = {}
    for name, given in inputs.items():
        double = copy.deepcopy(models[name]).double()
        with torch.inference_mode():
            wide = [x.double() if x.is_floating_point() else x for x in arguments(given)]
            answers[name] = double(*wide).numpy()
    return answers


def eager(models: Models, inputs: Inputs) -> Impl:
    """One model after the other, as PyTorch runs them."""

    def build() -> Callable[[], object]:
        pairs = [(models[name], arguments(given)) for name, given in inputs.items()]

        def run() -> object:
            with torch.inference_mode():
                return [model(*x) for model, x in pairs]

        return run

    return Impl(build, by_position(list(inputs)))


def compiled(models: Models, inputs: Inputs) -> Impl:
    """All members in one function given to ``torch.compile``."""

    def build() -> Callable[[], object]:
        torch.compiler.reset()
        pairs = [(models[name], arguments(given)) for name, given in inputs.items()]
        function = torch.compile(lambda: [model(*x) for model, x in pairs])

        def run() -> object:
            with torch.inference_mode():
                return function()

        return run

    return Impl(build, by_position(list(inputs)), slow=True)


def stacked(models: Models, inputs: Inputs, *, compile: bool = False) -> Impl:
    """PyTorch's ensembling recipe: stacked weights under ``torch.func.vmap``."""

    def build() -> Callable[[], object]:
        torch.compiler.reset()
        members = [copy.deepcopy(models[name]) for name in inputs]
        weights, buffers = torch.func.stack_module_state(members)
        shell = members[0]
        x = tuple(
            torch.stack(column) for column in zip(*map(arguments, inputs.values()), strict=True)
        )

        def one(w: dict[str, torch.Tensor], b: dict[str, torch.Tensor], *x: torch.Tensor) -> object:
            return torch.func.functional_call(shell, (w, b), x)

        function = torch.func.vmap(one)
        if compile:
            function = torch.compile(function)

        def run() -> object:
            with torch.inference_mode():
                return function(weights, buffers, *x)

        return run

    return Impl(build, by_position(list(inputs)), slow=compile)


class Plans:
    """Members compiled into one plan for each executor, when first asked for."""

    def __init__(
        self,
        sources: Sources,
        example: Given,
        threads: int,
        symbols: Mapping[str, object] | None = None,
    ) -> None:
        """Take what `fusec.compile` takes; `symbols` are the same for every member."""
        self._sources, self._example = dict(sources), example
        self.threads, self._symbols = threads, symbols
        self._made: dict[str, fusec.Plan] = {}

    def of(self, executor: str) -> fusec.Plan:
        """Give the plan that runs so."""
        if executor not in self._made:
            given = self._symbols
            plan = fusec.compile(
                self._sources,
                examples={"*": self._example},
                symbols=None if given is None else dict.fromkeys(self._sources, given),
                threads=self.threads,
                executor=executor,
            )
            plan.warm()
            self._made[executor] = plan
        return self._made[executor]

    def asked(self, executor: str, inputs: Inputs) -> Impl:
        """Run those members that `inputs` are for; requests and answers are arrays."""

        def build() -> Callable[[], object]:
            return asking(self.of(executor), inputs)

        return Impl(build, of_plan, note=lambda: extern_share(self.of(executor)))


def asking(made: fusec.Plan, inputs: Inputs) -> Callable[[], object]:
    """Return what asks a plan, with arrays."""
    request = {name: tuple(x.numpy() for x in arguments(g)) for name, g in inputs.items()}
    return lambda: made.run(request)


def extern_share(made: fusec.Plan) -> str:
    """Say how much of a plan's groups PyTorch runs; nothing if none."""
    told = []
    for group in made.explain().groups:
        native = group.native
        if native is None:
            continue
        if native.whole is not None:
            told.append(f"all through PyTorch: {native.whole}")
            continue
        extern = sum(count for _, count in native.extern)
        if extern:
            all_of_them = extern + sum(count for _, count in native.stages)
            which = ", ".join(op for op, _ in native.extern)
            told.append(f"{extern} of {all_of_them} stages through PyTorch ({which})")
    return "; ".join(told)[:200]


def limit(threads: int, n_bytes: float) -> Impl:
    """Only read as many bytes as the weights have, warm: no way to run them is faster."""

    def build() -> Callable[[], object]:
        reader = Reader(threads, int(n_bytes))
        return lambda: Took(reader.read_ns(_PASSES))

    return Impl(build, None)


def weight_bytes(models: Models, inputs: Inputs) -> float:
    """Return how many bytes of weights those members read that are asked; tables are not."""
    layers = [layer for name in inputs for layer in models[name].modules()]
    tensors = {
        id(t): t
        for layer in layers
        if not isinstance(layer, nn.Embedding)
        for t in (*layer.parameters(recurse=False), *layer.buffers(recurse=False))
    }
    return float(sum(t.nbytes for t in tensors.values()))


def flops(models: Models, inputs: Inputs) -> float:
    """Count the floating-point operations of one run: products, convolutions and attention."""
    total = 0
    for name, given in inputs.items():
        with FlopCounterMode(display=False) as counter, torch.inference_mode():
            models[name](*arguments(given))
        total += counter.get_total_flops()
    return float(total)


def side_by_side(
    models: Models,
    plans: Plans,
    contents: Mapping[str, bytes],
    inputs: Inputs,
    *,
    axis: Mapping[str, float] | None = None,
    stackable: bool = True,
    torch_executors: bool = True,
    compilers: bool = True,
) -> Setup:
    """Put every peer and every executor side by side.

    Args:
        models: the members as modules, for the peers made of PyTorch.
        plans: of the members.
        contents: the members as ONNX.
        inputs: one request for each member that is asked.
        axis: where the case stands in a sweep.
        stackable: whether ``torch.func`` can stack the requests: all of one shape.
        torch_executors: also time fusec's own executors that go through PyTorch.
        compilers: also time what ``torch.compile`` makes of everything at once.
    """
    threads = plans.threads
    moved = weight_bytes(models, inputs)
    asked = {name: contents[name] for name in inputs}
    impls = {
        "fusec cpu": plans.asked("cpu", inputs),
        "torch": eager(models, inputs),
        "onnxruntime": onnxruntime_sessions(asked, inputs, threads),
        "openvino": openvino_models(asked, inputs, threads),
    }
    if stackable:
        impls["torch.func"] = stacked(models, inputs)
        impls["torch.func compiled"] = stacked(models, inputs, compile=True)
    if compilers:
        impls["torch.compile"] = compiled(models, inputs)
    if torch_executors:
        for executor in ("isolated", "merged"):
            impls[f"fusec {executor}"] = plans.asked(executor, inputs)
    impls[LIMIT] = limit(threads, moved)
    return Setup(
        impls=impls,
        truth=truth_of(models, inputs),
        flops=flops(models, inputs),
        moved_bytes=moved,
        axis=axis or {},
    )
