"""The one table from ONNX operator to the function that evaluates it."""

from collections.abc import Mapping
from typing import Final

from fusec.importers.onnx.ops import (
    cast,
    constant,
    control,
    loss,
    quant,
    sequence,
    signal,
    text,
    training,
)
from fusec.importers.onnx.table import Key, Op, unite

OPERATORS: Final[Mapping[Key, Op]] = unite(
    (
        cast.OPS,
        constant.OPS,
        control.OPS,
        loss.OPS,
        quant.OPS,
        sequence.OPS,
        signal.OPS,
        text.OPS,
    ),
    (training.DOMAIN_OPS,),
)
