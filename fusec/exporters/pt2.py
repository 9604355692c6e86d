"""Write a program as an ExportedProgram that torch alone loads and runs."""

import json
from pathlib import Path

import torch
from torch.export import Dim, ExportedProgram

from fusec.exporters.module import as_module, examples
from fusec.exporters.quiet import quiet
from fusec.ir.errors import UnsupportedError
from fusec.passes.program import Program

__all__ = ["NAMES_FILE", "export_pt2", "exported"]

NAMES_FILE = "fusec.json"
"""Extra file inside the .pt2: names of inputs and outputs in their order."""


def exported(program: Program) -> ExportedProgram:
    """Export a program.

    Raises:
        UnsupportedError: torch refuses to export it.
    """
    shapes = tuple(
        {
            axis: Dim.AUTO
            for axis, extent in enumerate(node.meta["val"].shape)
            if not isinstance(extent, int)
        }
        for node in program.inputs
    )
    module = as_module(program)
    try:
        return torch.export.export(module, examples(program), dynamic_shapes=shapes, strict=False)
    except (torch._dynamo.exc.UserError, RuntimeError, ValueError) as error:
        first = str(error).strip().partition("\n")[0]
        raise UnsupportedError(f"torch cannot export the program: {first}") from error


def export_pt2(program: Program, path: str | Path) -> None:
    """Write a program as a .pt2 file.

    The file needs torch alone; where the program has operators of `fusec::` (recurrent layers), it
    needs `import fusec.kernels.operators` before it is loaded. Inputs are positional, results a
    tuple; their names are in the extra file `NAMES_FILE`.

    Raises:
        UnsupportedError: torch refuses to export the program.
    """
    names = {"inputs": list(program.input_names), "outputs": list(program.output_names)}
    with quiet():
        torch.export.save(exported(program), path, extra_files={NAMES_FILE: json.dumps(names)})
