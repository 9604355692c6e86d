"""The plan: many models compiled together, run in any subset, edited while they run."""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from fusec.answers import FAULTS, failed, named
from fusec.artifact import write_plan
from fusec.ir.device import DeviceCode
from fusec.ir.errors import ConfigError, FusecError, GuardBroken, KernelError, UnsupportedError
from fusec.ir.plan import Executor, Member, PlanData, WeightStorage
from fusec.ir.records import Json
from fusec.lowering import Stages, plain_layouts
from fusec.registry import Registry
from fusec.running import build_kernels, cuda_runner, opened, read_executor, runner
from fusec.runtime.arrays import Array
from fusec.runtime.calls import Calls
from fusec.runtime.cuda.settings import CudaSettings
from fusec.runtime.native import Planned, ThroughNative, WholeRequests
from fusec.runtime.request import Request, Target, read_request
from fusec.runtime.weights import repacked

if TYPE_CHECKING:
    from fusec.explain import Explanation
    from fusec.importers.importing import Source
    from fusec.profile import Profile
    from fusec.runtime.sched.profile import Profile as ScheduleProfile
    from fusec.targets import TargetInfo
    from fusec.twins import Twins

__all__ = ["Plan"]


class Plan:
    """Models compiled together.

    Safe to use from several threads: a running call keeps the weights it began with.
    """

    def __init__(
        self,
        data: PlanData,
        profile: Json = None,
        device: Sequence[DeviceCode] = (),
        cuda: CudaSettings | None = None,
    ) -> None:
        """Make a plan from data; users call `fusec.compile` or `fusec.load`."""
        self._profile = profile
        self._device = {code.target: code for code in device}
        cards = Stages(data.weight_storage, card=True)
        on_card = data.executor is Executor.CUDA
        self._stages = cards if on_card else Stages(data.weight_storage)
        self._card_stages = cards
        packs = data.executor.packs
        # Rounded weights are the plan's: models that join while PyTorch runs it get them, too.
        packed = packs or data.weight_storage is not None
        self._layouts = self._stages.layouts if packed else plain_layouts
        self._runner = (
            cuda_runner(self._stages, cuda, lambda: tuple(self._device.values()))
            if on_card
            else runner(data.executor, data.threads, self._stages)
        )
        self._calls = Calls()
        self._known: Twins | None = None
        self._registry = Registry(repacked(data, self._layouts) if packs else data)

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
        version = self._registry.version
        try:
            known = self._calls.answer(requests, version)
        except KernelError as e:
            raise failed(list(requests), e) from e
        return self._run(requests, version) if known is None else known

    def _run(self, requests: Mapping[str, Any], version: int) -> dict[str, dict[str, Any]]:
        if not isinstance(requests, Mapping):
            raise ConfigError(
                f"run takes a mapping from model name to inputs, got {type(requests).__name__}"
            )
        read = [read_request(self._registry.target(n), given) for n, given in requests.items()]
        answers, planned = self._answers(read)
        if planned is not None:
            self._calls.remember(read, planned, version)
        return named(read, answers)

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
        options = {"example": example, "symbols": symbols, "batch_axes": batch_axes, "bind": bind}
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
        options = {"example": example, "symbols": symbols, "batch_axes": batch_axes, "bind": bind}
        self._put(name, source, like, options, replacing=True)

    def remove(self, name: str) -> None:
        """Remove a model, and the weights that nobody else uses.

        Raises:
            ConfigError: no such model.
        """
        self._forget(self._registry.remove(name))

    def gather(self) -> None:
        """Lay weights together in memory, to be read faster: as loaded plans, `compile` ends so."""
        self._registry.gather()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the plan to one file, whole or not at all; an old file stays until then."""
        device = tuple(self._device.values())
        write_plan(self._registry.data(), path, profile=self._profile, device=device)

    def warm(self, progress: Callable[[str, int, int], None] | None = None) -> None:
        """Have all native code ready that this plan needs; else its first run builds what lacks.

        Code stays in a cache of the user's, for later processes too. With "cuda" it opens the card.

        Args:
            progress: told a library's name, how many are built by then, and how many are to be.

        Raises:
            KernelError: code does not build.
        """
        templates = self._registry.data().templates.values()
        if self.executor is Executor.CPU:
            build_kernels(templates, self._stages, progress)
        else:
            opened(self._runner, filter(self._stages.has, templates))

    def to(self, executor: str, cuda: CudaSettings | None = None) -> "Plan":
        """Give the same models in a plan of their own that runs in another way.

        Args:
            executor: as for `fusec.compile`.
            cuda: how it runs on a card, with "cuda" only; the card is opened at once.

        Raises:
            ConfigError: no such executor or card. UnsupportedError: no card or driver is here.
        """
        data = replace(self._registry.data(), executor=read_executor(executor))
        made = Plan(data, self._profile, tuple(self._device.values()), cuda)
        opened(made._runner)
        return made

    def profile(self, *, seconds: float = 0.5, preempt_ms: float | None = 10.0) -> "Profile":
        """Measure on this machine what stages and blocks take; `save` stores it with the plan.

        Args:
            seconds: for each template, and again for its blocks on one thread and on all.
            preempt_ms: what a block of one instance should take at most; None measures stages only.

        Raises:
            UnsupportedError: the plan does not run natively.
        """
        from fusec.profiling import profile_plan

        self._need_native("profile")
        data, stages = self._registry.data(), self._stages
        measured = profile_plan(data, stages, seconds=seconds, preempt_ms=preempt_ms)
        self._profile = measured.to_json()
        return measured

    def costs(self) -> "Profile | None":
        """Give the profile that is stored with the plan, None if it was never measured.

        Raises:
            ArtifactError: what is stored is no profile.
        """
        from fusec.profile import Profile

        return None if self._profile is None else Profile.from_json(self._profile)

    def schedule(self, threads: int | None = None) -> "ScheduleProfile | None":
        """Give what the stored profile says to schedulers, for its most threads or for some.

        None if that was never measured.
        """
        from fusec.schedule import template_keys

        found = None if (measured := self.costs()) is None else measured.schedule(threads)
        return None if found is None else found.costs(template_keys(self._registry.data()))

    def compile_for(
        self, target: str, progress: Callable[[str, int, int], None] | None = None
    ) -> "TargetInfo":
        """Compile kernels for a card, which need not be here; `save` stores them with the plan.

        Do it again when models of new templates have joined.

        Args:
            target: such as "cuda:sm_90".
            progress: as for `warm`, told a kernel's name.

        Raises:
            ConfigError: no such target. UnsupportedError: there is no Triton to compile with.
            KernelError: compiling does not start.
        """
        from fusec.targets import compile_for

        code = compile_for(target, self._registry.data(), self._card_stages, progress)
        self._device = {**self._device, code.target: code}
        return self.targets()[code.target]

    def targets(self) -> "dict[str, TargetInfo]":
        """Say what was compiled for each target, and which stages have no kernel there."""
        from fusec.targets import target_infos

        return target_infos(self._device.values(), self._registry.data(), self._card_stages)

    def trace(
        self, requests: Mapping[str, Any], path: str | os.PathLike[str]
    ) -> dict[str, dict[str, Any]]:
        """Run like `run`, and write what ran when and where as a Chrome trace.

        Args:
            requests: as for `run`.
            path: JSON file for https://ui.perfetto.dev, one track per worker.

        Raises:
            UnsupportedError: the plan does not run natively.
            ConfigError: there is no such folder, or `path` is not a regular file; nothing ran.
            ArtifactError: writing failed.
        """
        from fusec.tracing import run_traced

        runner = self._need_native("trace")
        read = [read_request(self._registry.target(n), given) for n, given in requests.items()]
        return run_traced(runner, read, path)

    def explain(self) -> "Explanation":
        """Say what was grouped, why near-twins were not, and how each group runs."""
        from fusec.explain import explain
        from fusec.how import how_merged, how_native

        data = self._registry.data()
        if data.executor.packs:
            return explain(data, natives=how_native(data, self._stages))
        return explain(data, merges=how_merged(data) if data.executor is Executor.MERGED else None)

    def inside(self) -> tuple[Registry, Stages, WholeRequests]:
        """Give what a runtime builds on: the members, what they are lowered to, who runs them."""
        return self._registry, self._stages, self._runner

    @property
    def members(self) -> Mapping[str, Member]:
        """Name -> record of each model: input and output names, notes."""
        return MappingProxyType(dict(self._registry.data().members))

    @property
    def executor(self) -> Executor:
        """How the plan runs."""
        return self._registry.executor

    @property
    def weight_storage(self) -> WeightStorage | None:
        """In what packed weights are stored; None: as the models have them."""
        return self._registry.weight_storage

    def __len__(self) -> int:
        return len(self._registry)

    def __repr__(self) -> str:
        return f"<fusec.Plan: {len(self)} models, executor {self.executor}>"

    def _put(
        self,
        name: str,
        source: "Source | Mapping[str, Any]",
        like: str | None,
        options: dict[str, Any],
        *,
        replacing: bool,
    ) -> None:
        self._registry.check_name(name, replacing=replacing)
        try:
            if like is not None:
                gone = self._put_like(name, source, like, replacing=replacing)
            else:
                gone = self._put_source(name, source, options, replacing=replacing)
        except FusecError as e:
            if f"model {name!r}" in str(e):
                raise
            raise type(e)(f"model {name!r}: {e}") from e
        if gone is not None:
            self._forget(gone)

    def _put_like(self, name: str, source: object, like: str, *, replacing: bool) -> Target | None:
        from fusec.members import put_like

        torch = sys.modules.get("torch")
        if torch is not None and isinstance(source, torch.nn.Module):
            source = source.state_dict()
        if not isinstance(source, Mapping):
            raise ConfigError(
                f"with like={like!r} give a state dict or mapping of weights, "
                f"got {type(source).__name__}"
            )
        return put_like(self._registry, name, source, like, self._layouts, replacing=replacing)

    def _put_source(
        self, name: str, source: Any, options: dict[str, Any], *, replacing: bool
    ) -> Target | None:
        from fusec.importers.importing import Options, Twin, import_model
        from fusec.members import put_imported, put_twin
        from fusec.runtime.modes import plain_tensors

        registry, layouts = self._registry, self._layouts
        with plain_tensors():
            twins = self._twins()
            imported = import_model(source, Options(**options), registry.structure, twins.find)
            if isinstance(imported, Twin):
                try:
                    return put_twin(registry, name, imported, layouts, replacing=replacing)
                except GuardBroken:
                    # Same structure, but a value that its rewrites may not rely on: trace it anew.
                    imported = import_model(source, Options(**options), lambda _: None)
            assert not isinstance(imported, Twin)
            gone = put_imported(registry, name, imported, layouts, replacing=replacing)
            twins.remember(name, imported)
            return gone

    def _twins(self) -> "Twins":
        from fusec.twins import Twins  # needs torch

        if self._known is None:
            self._known = Twins(self._registry)
        return self._known

    def _answers(self, requests: list[Request]) -> tuple[list[tuple[Array, ...]], Planned | None]:
        try:
            if isinstance(self._runner, ThroughNative):
                return self._runner.answer(requests)
            return self._runner.run(requests), None
        except (*FAULTS, KernelError) as e:
            raise failed([r.target.name for r in requests], e) from e

    def _need_native(self, what: str) -> ThroughNative:
        if not isinstance(self._runner, ThroughNative) or self.executor is not Executor.CPU:
            raise UnsupportedError(
                f"only the native executor can {what}; this plan runs {self.executor}, load it "
                'with executor="cpu" (`--executor cpu` on the command line)'
            )
        return self._runner

    def _forget(self, gone: Target) -> None:
        """Let go of what was planned for a member that is no more, and of its weights."""
        self._calls.clear()
        if isinstance(self._runner, ThroughNative):
            self._runner.executor.forget(gone.choices)
