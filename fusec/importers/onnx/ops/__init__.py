"""The one table from ONNX operator to the function that evaluates it."""

from collections.abc import Mapping
from typing import Final

from fusec.importers.onnx.ops import (
    arithmetic,
    cast,
    compare,
    constant,
    control,
    conv,
    generate,
    image,
    index,
    linear,
    loss,
    norm,
    pointwise,
    pool,
    quant,
    random,
    reduce,
    sequence,
    shape,
    signal,
    slicing,
    softmax,
    text,
    training,
)
from fusec.importers.onnx.table import Key, Op, unite

OPERATORS: Final[Mapping[Key, Op]] = unite(
    (
        arithmetic.OPS,
        cast.OPS,
        compare.OPS,
        constant.OPS,
        control.OPS,
        conv.OPS,
        generate.OPS,
        image.OPS,
        index.OPS,
        linear.OPS,
        loss.OPS,
        norm.OPS,
        pointwise.OPS,
        pool.OPS,
        quant.OPS,
        random.OPS,
        reduce.OPS,
        sequence.OPS,
        shape.OPS,
        signal.OPS,
        slicing.OPS,
        softmax.OPS,
        text.OPS,
    ),
    (training.DOMAIN_OPS,),
)
