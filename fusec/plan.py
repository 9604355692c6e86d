"""The plan: many models compiled together, run in any subset, edited while they run."""

import os
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import torch

from fusec.artifact import write_plan
from fusec.explain import Explanation, explain
from fusec.importers.importing import Options, Source, Twin, import_model
from fusec.ir.errors import ConfigError, FusecError, GuardBroken, KernelError
from fusec.ir.plan import Executor, Member, PlanData
from fusec.ir.symbols import evaluate
from fusec.ir.template import Template, TensorSpec
from fusec.members import put_imported, put_like, put_twin
from fusec.merging import build_merged, merge_info
from fusec.registry import Registry
from fusec.runtime.instances import Instance, instances_of, join
from fusec.runtime.isolated import IsolatedExecutor
from fusec.runtime.merged import MergedExecutor
from fusec.runtime.modes import no_autocast, plain_tensors
from fusec.runtime.request import Request, read_request

__all__ = ["Plan"]

_FAULTS = (RuntimeError, LookupError, TypeError, ValueError, ArithmeticError)
"""What torch's operators raise."""


class Plan:
    """Models compiled together.

    Safe to use from several threads: a running call keeps the weights it began with.
    """

    def __init__(self, data: PlanData) -> None:
        """Make a plan from data; users call `fusec.compile` or `fusec.load`."""
        self._registry = Registry(data)
        self._executor: IsolatedExecutor | MergedExecutor = (
            MergedExecutor(build_merged) if data.executor is Executor.MERGED else IsolatedExecutor()
        )

    def run(self, requests: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """Run any subset of the models, each on any number of rows.

        Args:
            requests: model name -> inputs: an array, a tuple in input order, or a mapping by
                input name. NumPy arrays or torch tensors, of the model's dtypes.

        Returns:
            Model name -> output name -> array; NumPy for NumPy inputs, torch for torch.

        Raises:
            ConfigError: unknown model or input, wrong dtype or shape; nothing is run then.
            KernelError: an operator fails on what the inputs hold, say an index out of range.
        """
        if not isinstance(requests, Mapping):
            raise ConfigError(
                f"run takes a mapping from model name to inputs, got {type(requests).__name__}"
            )
        read = [read_request(self._registry.target(n), given) for n, given in requests.items()]
        parts = [instances_of(request) for request in read]
        self._set_threads()
        answers = self._answers(list(requests), [i for part in parts for i in part])
        results: dict[str, dict[str, Any]] = {}
        start = 0
        for request, part in zip(read, parts, strict=True):
            own = answers[start : start + len(part)]
            start += len(part)
            results[request.target.name] = _named(request, join(request, own))
        return results

    def add(
        self,
        name: str,
        source: "Source | Mapping[str, Any]",
        *,
        like: str | None = None,
        example: Any = None,
        symbols: Mapping[str, Any] | None = None,
        batch_axes: Mapping[str, int | None] | None = None,
        bind: Mapping[str, Any] | None = None,
    ) -> None:
        """Add a model while others run.

        Args:
            name: of the new model.
            source: a model in any form that `fusec.compile` takes; with `like`, a state dict or
                mapping of raw weights instead.
            like: a model of this plan whose form the weights have; nothing is traced then.
            example: example inputs, see `fusec.compile`.
            symbols: extents that vary, see `fusec.compile`.
            batch_axes: batch axis per input name, see `fusec.compile`.
            bind: inputs fixed at import, see `fusec.compile`.

        Raises:
            ConfigError: the name is taken, or bad input; the plan stays as it was.
            ImportFailed: the model cannot be imported; the plan stays as it was.
        """
        options = Options(example=example, symbols=symbols, batch_axes=batch_axes, bind=bind)
        self._put(name, source, like, options, replacing=False)

    def replace(
        self,
        name: str,
        source: "Source | Mapping[str, Any]",
        *,
        like: str | None = None,
        example: Any = None,
        symbols: Mapping[str, Any] | None = None,
        batch_axes: Mapping[str, int | None] | None = None,
        bind: Mapping[str, Any] | None = None,
    ) -> None:
        """Replace a model in one step; see `add`. Calls that run finish with the old weights."""
        options = Options(example=example, symbols=symbols, batch_axes=batch_axes, bind=bind)
        self._put(name, source, like, options, replacing=True)

    def remove(self, name: str) -> None:
        """Remove a model, and the weights that nobody else uses.

        Raises:
            ConfigError: no such model.
        """
        self._registry.remove(name)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the plan to one file, whole or not at all; an old file stays until then."""
        write_plan(self._registry.data(), path)

    def explain(self) -> Explanation:
        """Say what was grouped, why near-twins were not, and how each group runs."""
        data = self._registry.data()
        merges = {}
        if data.executor is Executor.MERGED:
            sizes: dict[str, int] = {}
            for member in data.members.values():
                key = data.forms[member.variants[0].form].template
                sizes[key] = sizes.get(key, 0) + 1
            merges = {
                key: merge_info(data.templates[key], _hint_shapes(data.templates[key]), n)
                for key, n in sizes.items()
                if n > 1
            }
        return explain(data, merges)

    @property
    def members(self) -> Mapping[str, Member]:
        """Name -> record of each model: input and output names, notes."""
        return MappingProxyType(dict(self._registry.data().members))

    @property
    def executor(self) -> Executor:
        """How the plan runs."""
        return self._registry.executor

    def __len__(self) -> int:
        return len(self._registry)

    def __repr__(self) -> str:
        return f"<fusec.Plan: {len(self)} models, executor {self.executor}>"

    def _put(
        self,
        name: str,
        source: "Source | Mapping[str, Any]",
        like: str | None,
        options: Options,
        *,
        replacing: bool,
    ) -> None:
        self._registry.check_name(name, replacing=replacing)
        try:
            if like is not None:
                if isinstance(source, torch.nn.Module):
                    source = source.state_dict()
                if not isinstance(source, Mapping):
                    raise ConfigError(
                        f"with like={like!r} give a state dict or mapping of weights, "
                        f"got {type(source).__name__}"
                    )
                put_like(self._registry, name, source, like, replacing=replacing)
                return
            with plain_tensors():
                self._put_source(name, source, options, replacing=replacing)
        except FusecError as e:
            if f"model {name!r}" in str(e):
                raise
            raise type(e)(f"model {name!r}: {e}") from e

    def _put_source(self, name: str, source: Source, options: Options, *, replacing: bool) -> None:
        imported = import_model(source, options, self._registry.structure)
        if isinstance(imported, Twin):
            try:
                put_twin(self._registry, name, imported, replacing=replacing)
            except GuardBroken:
                # Same structure, but a value that its rewrites may not rely on: trace it anew.
                imported = import_model(source, options, lambda _: None)
        if not isinstance(imported, Twin):
            put_imported(self._registry, name, imported, replacing=replacing)

    def _answers(
        self, names: list[str], instances: list[Instance]
    ) -> list[tuple[torch.Tensor, ...]]:
        try:
            with no_autocast():
                return self._executor.run(instances)
        except _FAULTS as e:
            who = ", ".join(names[:5]) + (f", ... ({len(names)} models)" if len(names) > 5 else "")
            text = str(e).strip().partition("\n")[0]
            raise KernelError(
                f"running {who} fails: {type(e).__name__}: {text}; the shapes fit, so look at the "
                "values (an index out of range?) or at the memory that is left"
            ) from e

    def _set_threads(self) -> None:
        threads = self._registry.threads
        if threads is not None and torch.get_num_threads() != threads:
            torch.set_num_threads(threads)


def _named(request: Request, outputs: list[torch.Tensor]) -> dict[str, Any]:
    names = request.target.member.output_names
    if not request.wants_numpy:
        return dict(zip(names, outputs, strict=True))
    return {n: _to_numpy(t) for n, t in zip(names, outputs, strict=True)}


def _to_numpy(tensor: torch.Tensor) -> np.ndarray[Any, Any]:
    if tensor.dtype == torch.bfloat16 or "float8" in str(tensor.dtype):
        # NumPy has no such dtype; every value of these is exact in float32.
        return tensor.float().numpy()
    return tensor.resolve_conj().numpy()


def _hint_shapes(template: Template) -> list[tuple[int, ...]]:
    """Give input shapes that fit the template, each symbol a little above its minimum."""
    extents = {
        s.name: max(s.min, min(s.max or 16, 16)) if s.max is None or s.max >= s.min else s.min
        for s in template.symbols
    }
    shapes = []
    for spec in template.inputs:
        assert isinstance(spec, TensorSpec)
        shapes.append(tuple(evaluate(str(d), extents) for d in spec.shape))
    return shapes
