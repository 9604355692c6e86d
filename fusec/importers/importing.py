r"""One door for every source: a model in, captured programs out, or only the weights of a twin.

source --open--> Source --find rows--> facts --capture at one row--> programs
                    \\-- ONNX of a known raw structure: weights only, nothing is traced
"""

import hashlib
import os
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from torch import Tensor, nn
from torch.export import ExportedProgram

from fusec.importers.batch import BatchFacts, find_batch, one_row, still_holds
from fusec.importers.likeness import likeness, state_of
from fusec.importers.regimes import other_regimes
from fusec.importers.source import Source as OpenSource
from fusec.importers.source import TorchSource, torch_source
from fusec.importers.torch_capture import Dynamic, capture, program_of
from fusec.importers.variants import variants
from fusec.ir.errors import ConfigError, ImportFailed
from fusec.ir.plan import Structure
from fusec.ir.template import RowsKind, Symbol
from fusec.passes.program import Program

__all__ = ["Alike", "Imported", "Options", "Source", "Twin", "import_model"]

Source: TypeAlias = Any
"""nn.Module, fx.GraphModule, ExportedProgram, path to .onnx or .pt2, ONNX bytes or ModelProto."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Options:
    """What the caller says about one model; None leaves it to fusec to find out."""

    example: Any
    symbols: Mapping[str, Mapping[int, Any]] | None
    batch_axes: Mapping[str, int | None] | None
    bind: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Alike:
    """A module's program, without its weights."""

    key: Hashable
    facts: BatchFacts
    weights: frozenset[str]
    """Names of all parameters and buffers."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Imported:
    """A model that was captured."""

    programs: tuple[Program, ...]
    """The general one first, then those for extents of 1."""
    structure: str | None
    """Hash of the raw structure and options, for ONNX."""
    weight_names: Mapping[str, str]
    """Name in the source by raw weight name, where they differ."""
    notes: tuple[str, ...]
    alike: Alike | None
    """What later modules of the same program are told by."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Twin:
    """A model whose program is known already: its weights are all that matters."""

    known: Structure
    weights: Mapping[str, Tensor]
    weight_names: Mapping[str, str]
    input_names: tuple[str, ...]
    output_names: tuple[str, ...]
    proof: tuple[Sequence[Tensor], Sequence[Tensor]] | None
    """Inputs, and the model's own answers, that the known program has to give."""


def import_model(
    source: Source,
    options: Options,
    known: Callable[[str], Structure | None],
    alike: Callable[[Hashable], tuple[Alike, Structure] | None] | None = None,
) -> Imported | Twin:
    """Import a model in any form.

    Args:
        source: the model.
        options: what the caller says about it.
        known: tells whether a raw structure has been imported before.
        alike: tells what is known of modules with a likeness; None if each is to be traced.

    Raises:
        ConfigError: bad input: no such file, a damaged one, examples that do not fit.
        ImportFailed: what cannot be imported, named by operator or line.
    Cost: a trace, 0.1 to some seconds; a twin costs reading its weights, and a module some runs.
    """
    if _is_onnx(source):
        return _import_onnx(source, options, known)
    if options.bind:
        raise ConfigError("bind fixes inputs of ONNX models; wrap the module to fix its arguments")
    args, kwargs = _call(options.example)
    opened = torch_source(source, args, kwargs)
    given = (options.symbols, options.batch_axes)
    key = likeness(source, (args, kwargs), given) if isinstance(source, nn.Module) else None
    found = alike(key) if alike is not None and key is not None else None
    if found is not None:
        twin = _module_twin(opened, source, *found)
        if twin is not None:
            return twin
    imported, facts = _capture_all(opened, options, structure=None, weight_names={}, named={})
    opened.refuse_memory()
    if key is None:
        return imported
    held = Alike(key=key, facts=facts, weights=frozenset(state_of(source)))
    return replace(imported, alike=held)


def _module_twin(
    opened: TorchSource, module: nn.Module, alike: Alike, known: Structure
) -> Twin | None:
    """Take only the weights of a module, after all checks that its values could fail."""
    if not still_holds(opened, opened.examples, alike.facts):
        return None
    opened.refuse_memory()
    inputs = opened.examples
    if alike.facts.kind is RowsKind.INDEPENDENT:
        inputs = one_row(inputs, alike.facts.input_axes)
    return Twin(
        known=known,
        weights={name: tensor.detach() for name, tensor in state_of(module).items()},
        weight_names={},
        input_names=opened.input_names,
        output_names=opened.output_names,
        proof=(inputs, opened.run(inputs)),
    )


def _is_onnx(source: Source) -> bool:
    if isinstance(source, nn.Module | ExportedProgram | type):
        return False
    if isinstance(source, bytes | bytearray | memoryview):
        return True
    if isinstance(source, str | os.PathLike):
        return _path_is_onnx(Path(source))
    if type(source).__module__.partition(".")[0] in ("onnx", "onnx_ml_pb2"):
        return True
    raise ConfigError(
        f"a {type(source).__name__} is no model; give an nn.Module, fx.GraphModule, "
        "ExportedProgram, a path to .onnx or .pt2, ONNX bytes or a ModelProto"
    )


def _path_is_onnx(path: Path) -> bool:
    if not path.exists():
        raise ConfigError(f"{path}: no such file")
    if path.suffix in (".pt", ".pth", ".bin", ".ckpt", ".safetensors"):
        raise ConfigError(
            f"{path}: holds weights or a pickle, not a program; build the module and pass it, or "
            "save a program with torch.export.save as .pt2"
        )
    return path.suffix != ".pt2"


def _import_onnx(
    source: Source, options: Options, known: Callable[[str], Structure | None]
) -> Imported | Twin:
    # onnx is an extra: it is needed, and imported, with the first ONNX model only.
    from fusec.importers.onnx.load import load_model
    from fusec.importers.onnx.source import named_rows, onnx_source
    from fusec.importers.onnx.structure import structure

    if isinstance(source, bytearray | memoryview):
        source = bytes(source)
    loaded = load_model(os.fspath(source) if isinstance(source, os.PathLike) else source)
    found = structure(loaded, options.bind)
    inputs = [i for i in loaded.inputs if i.name not in (options.bind or {})]
    named = {i: axis for i, axes in named_rows(inputs).items() for axis in axes}
    key = _key(found.key, options, named)
    names = {f"w{i}": w.name for i, w in enumerate(found.weights)}
    twin = known(key)
    if twin is not None:
        return Twin(
            known=twin,
            weights={f"w{i}": w.tensor() for i, w in enumerate(found.weights)},
            weight_names=names,
            input_names=tuple(i.name for i in inputs),
            output_names=tuple(o.name for o in loaded.outputs),
            proof=None,
        )
    opened = onnx_source(loaded, options.bind, options.example)
    imported, _ = _capture_all(opened, options, structure=key, weight_names=names, named=named)
    return imported


def _key(structure: str, options: Options, named: Mapping[int, int]) -> str:
    """Join a raw structure and all else that steers its import into one hash."""
    example = options.example
    if isinstance(example, Mapping):
        example = [example[k] for k in sorted(example)]
    values = example if isinstance(example, list | tuple) else [example]
    shapes = [(str(getattr(v, "dtype", "")), tuple(getattr(v, "shape", ()))) for v in values]
    given = [
        sorted((n, sorted(axes.items())) for n, axes in (options.symbols or {}).items()),
        sorted((options.batch_axes or {}).items(), key=str),
        shapes,
        sorted(named.items()),
    ]
    return hashlib.sha256(f"{structure} {given}".encode()).hexdigest()


def _call(example: Any) -> tuple[Sequence[Any] | None, Mapping[str, Any]]:
    if example is None:
        return None, {}
    if isinstance(example, Mapping):
        return (), {str(k): v for k, v in example.items()}
    return (tuple(example) if isinstance(example, tuple) else (example,)), {}


def _capture_all(
    opened: OpenSource,
    options: Options,
    *,
    structure: str | None,
    weight_names: Mapping[str, str],
    named: Mapping[int, int],
) -> tuple[Imported, BatchFacts]:
    given = _given_axes(opened, options.batch_axes)
    facts = find_batch(opened, opened.examples, given=given, named=named)
    dynamic = _dynamic(opened, options.symbols, facts)
    examples = opened.examples
    if facts.kind is RowsKind.INDEPENDENT:
        examples = one_row(examples, facts.input_axes)
    bound = tuple(
        (n, repr(np.asarray(v).tolist())) for n, v in sorted((options.bind or {}).items())
    )
    notes = [*opened.notes, facts.how]

    def captured(inputs: Sequence[Tensor], free: Dynamic) -> Program:
        traced = capture(
            opened.module,
            inputs,
            dynamic=free,
            input_names=opened.input_names,
            output_names=opened.output_names,
        )
        results = traced.graph.graph.output_node().args[0]
        assert isinstance(results, tuple | list)
        if len(results) != len(opened.output_names):
            raise ImportFailed(
                f"the model has {len(results)} outputs there, {len(opened.output_names)} at its "
                "example; a program has one number of outputs"
            )
        notes.extend(n for n in traced.notes if n not in notes)
        return program_of(
            traced,
            input_axes=facts.input_axes,
            output_axes=facts.output_axes,
            rows=facts.kind,
            bound=bound,
        )

    general, *ones = variants(opened, examples, dynamic)
    programs = [captured(*general)]
    for inputs, free in ones:
        try:
            programs.append(captured(inputs, free))
        except ImportFailed as e:
            # The general program stands; only requests of exactly these extents are refused.
            notes.append(f"extents {[list(t.shape) for t in inputs]} cannot be captured: {e}")
    programs += other_regimes(opened, examples, dynamic, programs[0], captured)
    imported = Imported(
        programs=tuple(programs),
        structure=structure,
        weight_names=weight_names,
        notes=tuple(notes),
        alike=None,
    )
    return imported, facts


def _given_axes(
    opened: OpenSource, axes: Mapping[str, int | None] | None
) -> tuple[int | None, ...] | None:
    if axes is None:
        return None
    unknown = sorted(set(axes) - set(opened.input_names))
    if unknown:
        raise ConfigError(f"batch_axes names {unknown}; inputs are {list(opened.input_names)}")
    for name, axis in axes.items():
        rank = opened.examples[opened.input_names.index(name)].dim()
        if axis is not None and not 0 <= axis < rank:
            raise ConfigError(f"batch axis {axis} of input {name!r}, which has {rank} axes")
    return tuple(axes.get(n) for n in opened.input_names)


def _dynamic(
    opened: OpenSource, symbols: Mapping[str, Mapping[int, Any]] | None, facts: BatchFacts
) -> Dynamic:
    """Collect the extents that vary: declared by the source, asked for, and rows run whole."""
    free = {i: dict(axes) for i, axes in opened.dynamic.items()}
    for name, axes in (symbols or {}).items():
        if name not in opened.input_names:
            raise ConfigError(f"symbols names input {name!r}; inputs are {opened.input_names}")
        index = opened.input_names.index(name)
        for axis, given in axes.items():
            if not 0 <= axis < opened.examples[index].dim():
                raise ConfigError(f"symbols names axis {axis} of {name!r}, which has fewer axes")
            free.setdefault(index, {})[axis] = _symbol(given)
    for i, rows in enumerate(facts.input_axes):
        if rows is None:
            continue
        if facts.kind is RowsKind.WHOLE_REQUEST:
            free.setdefault(i, {}).setdefault(rows, Symbol("rows", 1, None))
        else:
            free.get(i, {}).pop(rows, None)
    return {i: axes for i, axes in free.items() if axes}


def _symbol(given: Any) -> Symbol:
    if isinstance(given, str):
        return Symbol(given, 1, None)
    if isinstance(given, Symbol):
        return given
    if isinstance(given, tuple) and len(given) == 3 and isinstance(given[0], str):
        low, high = given[1], given[2]
        if isinstance(low, int) and (high is None or (isinstance(high, int) and high >= low >= 0)):
            return Symbol(given[0], low, high)
    raise ConfigError(f"a symbol is a name or (name, min, max), got {given!r}")
