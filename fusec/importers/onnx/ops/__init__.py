"""The one table from ONNX operator to the function that evaluates it."""

from collections.abc import Mapping
from typing import Final

from fusec.importers.onnx.ops import constant, control, sequence, text
from fusec.importers.onnx.table import Key, Op, unite

OPERATORS: Final[Mapping[Key, Op]] = unite(
    (
        constant.OPS,
        control.OPS,
        sequence.OPS,
        text.OPS,
    ),
    (),
)
