"""Programs and templates of small modules, for tests that need no importer of their own."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from fusec.importers.torch_capture import Dynamic, capture, program_of
from fusec.ir.template import Recipe, RowsKind, Template
from fusec.passes.pack import pack
from fusec.passes.program import Program


def program_from(
    module: nn.Module,
    *args: torch.Tensor,
    axes: Sequence[int | None] | None = None,
    n_outputs: int = 1,
    dynamic: Dynamic | None = None,
    rows: RowsKind = RowsKind.INDEPENDENT,
) -> Program:
    """Capture a module at its examples; rows are on axis 0 of everything unless told otherwise."""
    return program_of(
        capture(module.eval(), args, dynamic=dynamic),
        input_axes=axes if axes is not None else (0,) * len(args),
        output_axes=(0,) * n_outputs,
        rows=rows,
    )


def packed(module: nn.Module, *args: torch.Tensor) -> tuple[Template, Recipe]:
    """Give the template and recipe of a module, not canonicalised."""
    return pack(program_from(module, *args))
