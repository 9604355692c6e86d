"""Sources: every form in which a user hands over a model, behind one small interface."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from fusec.importers.layout import flatten_results, lay_out
from fusec.importers.pt2 import load_pt2
from fusec.importers.torch_capture import Dynamic
from fusec.importers.torch_exported import exported_inputs
from fusec.importers.torch_place import place_of_error
from fusec.importers.torch_refuse import refuse_module
from fusec.importers.torch_rnn import RnnCheck
from fusec.importers.torch_state import untouched
from fusec.ir.errors import ConfigError, FusecError, ImportFailed

__all__ = ["FlatModule", "Source", "TorchSource", "torch_source"]


class Source(Protocol):
    """What fusec asks of a model, whatever its form.

    Attributes:
        input_names: in the order of `examples`.
        output_names: in the order of what `run` returns.
        examples: one tensor per input.
        dynamic: extents that the source itself declares to vary.
        module: maps the input tensors to a tuple of the output tensors; this is what is traced.
        notes: what the user should know, in words.
    """

    @property
    def input_names(self) -> tuple[str, ...]:
        """Names of the inputs."""
        ...

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of the outputs."""
        ...

    @property
    def examples(self) -> tuple[Tensor, ...]:
        """Example inputs."""
        ...

    @property
    def dynamic(self) -> Dynamic:
        """Extents that vary by the source's own word."""
        ...

    @property
    def module(self) -> nn.Module:
        """The module to trace."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes for the user."""
        ...

    def run(self, args: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Run the original model eagerly: the truth."""
        ...


class Fillable(Protocol):
    """Anything that turns flat tensors into the arguments of a call."""

    def fill(self, tensors: Sequence[Tensor]) -> tuple[list[Any], dict[str, Any]]:
        """Give the arguments of a call."""
        ...


class FlatModule(nn.Module):
    """A user's module behind flat positional tensors; keeps it as `inner`."""

    def __init__(self, inner: nn.Module, layout: Fillable) -> None:
        """Wrap a module without changing it."""
        super().__init__()
        self.inner = inner
        self.written: frozenset[int] = frozenset()
        self._layout = layout

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Call the inner module and flatten what it returns; inputs it writes to are copied."""
        args, kwargs = self._layout.fill(
            [t.clone() if i in self.written else t for i, t in enumerate(tensors)]
        )
        found, _ = flatten_results(self.inner(*args, **kwargs))
        return tuple(tensor for _, tensor in found)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TorchSource:
    """A PyTorch model with example inputs."""

    input_names: tuple[str, ...]
    output_names: tuple[str, ...]
    examples: tuple[Tensor, ...]
    dynamic: Dynamic
    module: nn.Module
    notes: tuple[str, ...]

    def run(self, args: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Run the model eagerly; its state is as before afterwards.

        Raises:
            ImportFailed: the model fails on these inputs.
        """
        return _run(self.module, args)

    def refuse_memory(self) -> None:
        """Refuse a model that answers differently when it is called again.

        What a trace shows of such state is refused with the place; this finds the rest, such as
        counters and lists in plain attributes.

        Raises:
            ImportFailed: two calls with the same inputs differ.
        Cost: two runs of the model.
        """
        try:
            with untouched(self.module), RnnCheck():
                first, second = (
                    [t.detach().clone() for t in self.module(*self.examples)] for _ in range(2)
                )
        except FusecError:
            raise
        except Exception as e:
            raise _failed(e) from e
        if len(first) != len(second) or not all(map(_same_bits, first, second)):
            raise ImportFailed(
                "the model answers differently when it is called again with the same inputs: it "
                "keeps state between calls, in an attribute or a buffer; pass that state in and "
                "return it"
            )


def _same_bits(a: Tensor, b: Tensor) -> bool:
    if (a.dtype, a.shape) != (b.dtype, b.shape):
        return False
    if a.is_floating_point() and a.dtype.itemsize == 1:
        a, b = a.view(torch.uint8), b.view(torch.uint8)
    return bool(((a == b) | ((a != a) & (b != b))).all())


def torch_source(
    model: nn.Module | ExportedProgram | str | Path,
    args: Sequence[Any] | None = None,
    kwargs: Mapping[str, Any] | None = None,
) -> TorchSource:
    """Open a PyTorch model: a module (also an fx one), an exported program, or a .pt2 file.

    Args:
        model: the model; modules must be in eval mode where that matters.
        args: positional example inputs, nested as the model takes them. Exported programs carry
            their own.
        kwargs: named example inputs.

    Raises:
        ConfigError: no examples, examples that do not fit, or a path that holds no program.
        ImportFailed: what cannot be imported.
    """
    if isinstance(model, str | Path):
        model = load_pt2(Path(model))
    if isinstance(model, ExportedProgram):
        return _from_exported(model, args, kwargs)
    if isinstance(model, type):
        raise ConfigError(f"{model.__name__} is a class; give an instance of it")
    if not isinstance(model, nn.Module):
        raise ConfigError(
            f"a {type(model).__name__} is no model; give an nn.Module, an ExportedProgram or a path"
        )
    if args is None and not kwargs:
        raise ConfigError(
            f"{type(model).__name__}: give example inputs, a module does not tell its input shapes"
        )
    refuse_module(model)
    layout, tensors = lay_out(model.forward, args or (), kwargs or {})
    return _finish(FlatModule(model, layout), layout.names, tensors, {}, _fixed_notes(layout.fixed))


def _from_exported(
    exported: ExportedProgram, args: Sequence[Any] | None, kwargs: Mapping[str, Any] | None
) -> TorchSource:
    found = exported_inputs(exported, args, kwargs)
    module = exported.module(check_guards=False)
    # The remaining check pins every extent to the exporter's example. Whether the program runs at
    # another number of rows is found out by running it; its ranges are kept as symbols.
    module._forward_pre_hooks.clear()
    module._forward_pre_hooks_with_kwargs.clear()
    flat = FlatModule(module, found.layout)
    notes = _fixed_notes(found.layout.fixed)
    return _finish(flat, found.layout.names, found.examples, found.dynamic, notes)


def _finish(
    module: FlatModule,
    names: tuple[str, ...],
    examples: tuple[Tensor, ...],
    dynamic: Dynamic,
    notes: tuple[str, ...],
) -> TorchSource:
    for name, example in zip(names, examples, strict=True):
        if example.is_meta:
            raise ConfigError(f"example input {name} is a meta tensor and holds no data")
        if example.is_nested or example.layout is not torch.strided:
            kind = "nested" if example.is_nested else str(example.layout)
            raise ConfigError(f"example input {name} is a {kind} tensor; give a dense one")
    # What the model writes to its inputs must not reach the caller's examples.
    own = [example.clone() for example in examples]
    args, kwargs = module._layout.fill(own)
    try:
        with untouched(module), RnnCheck():
            versions = [t._version for t in own]
            found, more = flatten_results(module.inner(*args, **kwargs))
    except FusecError:
        raise
    except Exception as e:
        raise _failed(e) from e
    if not found:
        raise ImportFailed("the model returns no tensor")
    written = [i for i, (t, v) in enumerate(zip(own, versions, strict=True)) if t._version != v]
    module.written = frozenset(written)
    more += [f"the model writes to input {names[i]}; it gets a copy of its own" for i in written]
    return TorchSource(
        input_names=names,
        output_names=tuple(name for name, _ in found),
        examples=examples,
        dynamic=dynamic,
        module=module,
        notes=(*notes, *more),
    )


def _fixed_notes(fixed: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    return tuple(f"argument {name} is fixed at {value}" for name, value in fixed)


def _run(module: nn.Module, args: Sequence[Tensor]) -> tuple[Tensor, ...]:
    try:
        with untouched(module), RnnCheck():
            results: tuple[Tensor, ...] = module(*args)
    except FusecError:
        raise
    except Exception as e:
        raise _failed(e) from e
    return tuple(r.detach() for r in results)


def _failed(error: Exception) -> ImportFailed:
    text = str(error).strip().splitlines()
    return ImportFailed(
        f"the model fails when run on the given inputs, at {place_of_error(error)}: "
        f"{type(error).__name__}: {text[0] if text else ''}"
    )
