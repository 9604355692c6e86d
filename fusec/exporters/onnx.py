"""Write a program as an ONNX model."""

import re
from pathlib import Path
from typing import Any

import torch

from fusec.exporters.module import as_module, examples
from fusec.exporters.onnx_recurrent import translations
from fusec.exporters.quiet import quiet
from fusec.ir.errors import ConfigError, UnsupportedError
from fusec.passes.program import Program

__all__ = ["export_onnx"]

EXTERNAL_BYTES = 1 << 30
"""Weights beyond this go into a file beside the model: a model file is limited to 2 GB."""


def export_onnx(program: Program, path: str | Path) -> None:
    """Write a program as an ONNX model with the program's input and output names.

    Raises:
        ConfigError: onnx or onnxscript is not installed.
        UnsupportedError: operators that have no ONNX form; the message names them.
    """
    try:
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ConfigError(f"ONNX export needs onnx and onnxscript: {error}") from error
    size = sum(tensor.numel() * tensor.element_size() for tensor in program.weights.values())
    with quiet():
        _convert(program).save(str(path), external_data=size > EXTERNAL_BYTES)


def _convert(program: Program) -> Any:
    shapes = tuple(
        {
            axis: _axis_name(extent, program)
            for axis, extent in enumerate(node.meta["val"].shape)
            if not isinstance(extent, int)
        }
        for node in program.inputs
    )
    try:
        return torch.onnx.export(
            as_module(program),
            examples(program),
            dynamo=True,
            input_names=list(program.input_names),
            output_names=list(program.output_names),
            dynamic_shapes=shapes,
            custom_translation_table=dict(translations()),
            verbose=False,
        )
    except (torch.onnx.errors.OnnxExporterError, RuntimeError) as error:
        raise _unsupported(error) from error


def _axis_name(extent: Any, program: Program) -> str:
    return re.sub(r"\w+", lambda m: program.symbol_names.get(m[0], m[0]), str(extent))


def _unsupported(error: BaseException) -> UnsupportedError:
    text = ""
    cause: BaseException | None = error
    while cause is not None:
        text += f"{cause}\n"
        cause = cause.__cause__
    names = sorted(set(re.findall(r"op='([\w.]+)'", text)))
    what = ", ".join(names) if names else text.strip().partition("\n")[0]
    return UnsupportedError(f"the program has no ONNX form because of {what}; export it as .pt2")
