"""Merging model files into one program, and writing that program in one step."""

import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

from fusec.cli.inputs import said_of
from fusec.cli.options import PerInput
from fusec.exporters.onnx import export_onnx
from fusec.exporters.pt2 import export_pt2
from fusec.importers.importing import Imported, Options, import_model
from fusec.ir.errors import ArtifactError, FusecError
from fusec.passes.canonicalise import canonicalise
from fusec.passes.merge import MergeReport, merge
from fusec.passes.program import Program

__all__ = ["export_program", "merge_files"]


def merge_files(
    models: Mapping[str, Path],
    bind: PerInput,
    symbols: PerInput,
    *,
    io: Literal["stacked", "named"],
    shared_inputs: bool,
    show: Callable[[str, int], None],
) -> tuple[Program, MergeReport]:
    """Import models and merge them.

    Raises:
        FusecError: a model cannot be imported, or the models cannot be merged.
    """
    programs = []
    for done, (name, path) in enumerate(models.items()):
        show(name, done)
        try:
            programs.append(_import(name, path, models, bind, symbols))
        except FusecError as e:
            raise type(e)(str(e) if str(path) in str(e) else f"{path}: {e}") from e
    return merge(programs, io=io, names=list(models), shared_inputs=shared_inputs)


def _import(
    name: str, path: Path, models: Mapping[str, Path], bind: PerInput, symbols: PerInput
) -> Program:
    options = Options(
        example=None,
        symbols=said_of(symbols, name, path, models),  # type: ignore[arg-type]
        # None has rows of its own: an axis that is free in the file stays free in the result.
        batch_axes={},
        bind=said_of(bind, name, path, models),
    )
    imported = import_model(path, options, lambda structure: None)
    assert isinstance(imported, Imported)  # no structure is known, so there is no twin
    return canonicalise(imported.programs[0])[0]


def export_program(program: Program, path: Path) -> None:
    """Write a program as .onnx or .pt2, by the path's suffix: the old file or the whole new one.

    Raises:
        UnsupportedError: the program has no form in this format.
        ArtifactError: writing failed; what was at `path` is as before.
    """
    export = export_onnx if path.suffix.lower() == ".onnx" else export_pt2
    try:
        # Under its own name: an .onnx file names the file of its weights, which lies beside it.
        with tempfile.TemporaryDirectory(dir=path.absolute().parent, prefix=".fusec-") as folder:
            export(program, Path(folder) / path.name)
            # The model last: until it is there, nothing refers to the other files.
            for file in sorted(Path(folder).iterdir(), key=lambda f: f.name == path.name):
                os.replace(file, path.with_name(file.name))
    except OSError as e:
        raise ArtifactError(f"{path}: not written, nothing changed: {e.strerror or e}") from e
