"""Stages: what a template is lowered to. One tile operation each, over views of flat buffers.

    Lowered
      buffers   slot -> flat memory: an input, an output, a weight, or arena memory of the run
      stages    in an order in which they may run; each reads and writes views of buffers
      outputs   slots of the outputs, dense in the template's output shape

Every extent, offset and stride is an `Extent`: an integer or a polynomial over the template's
symbols, bound per instance. Offsets and strides count elements. A buffer holds one instance;
instances that run together have their copies of it one after another without a gap.
"""

import math
from collections.abc import Sequence
from enum import StrEnum
from typing import TypeAlias

from fusec.ir.extents import Extent, of, product
from fusec.ir.frozen import dataclass
from fusec.ir.template import Row

__all__ = [
    "Attr",
    "Buffer",
    "BufferKind",
    "ExternCall",
    "Layout",
    "LayoutKind",
    "Lowered",
    "Operand",
    "PointProgram",
    "PointStep",
    "Stage",
    "TileOp",
    "View",
    "dense",
    "packed_elements",
    "plain_layout",
    "stored_dtype",
]


class TileOp(StrEnum):
    """The tile operations; each has a folder in `fusec/kernels`."""

    GEMM = "gemm"
    MATMUL = "matmul"
    CONV = "conv"
    POOL = "pool"
    NORM = "norm"
    SOFTMAX = "softmax"
    ATTENTION = "attention"
    REDUCE = "reduce"
    POINTWISE = "pointwise"
    GATHER = "gather"
    COPY = "copy"
    RNN = "rnn"
    EXTERN = "extern"


class BufferKind(StrEnum):
    """Whose memory a buffer is."""

    INPUT = "input"
    OUTPUT = "output"
    WEIGHT = "weight"
    ARENA = "arena"


@dataclass(frozen=True, slots=True, kw_only=True)
class Buffer:
    """Flat memory of one instance, addressed by slot number."""

    kind: BufferKind
    dtype: str
    elements: Extent
    """How many; for a weight, of the layout it is packed in."""
    index: int
    """Number of the input, output or template weight; -1 in the arena."""


@dataclass(frozen=True, slots=True)
class View:
    """A strided window on a buffer."""

    slot: int
    dtype: str
    shape: tuple[Extent, ...]
    strides: tuple[Extent, ...]
    """Elements; 0 repeats."""
    offset: Extent


class LayoutKind(StrEnum):
    """How a packed weight lies in memory."""

    PLAIN = "plain"
    """C-contiguous in the template's shape."""

    PANELS = "panels"
    """A matrix B[K, N] as [groups, ceil(N / nr), K, nr], columns past N zero."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """From a template weight's plain array to its packed bytes, and back.

    `array.reshape(split).transpose(order).reshape(groups, K, N)` is the matrix, or `groups` of
    them. A plain layout has `nr` 1, one group, one row and all elements as its columns.
    """

    kind: LayoutKind
    order: tuple[int, ...]
    groups: int
    k: int
    n: int
    nr: int
    split: tuple[int, ...] = ()
    """Shape in which `order` counts axes; () is the template's own."""
    stored: str | None = None
    """Dtype of the packed elements; None is the weight's own. Float32 panels may be "bfloat16"."""


@dataclass(frozen=True, slots=True)
class PointStep:
    """One elementwise step; its result is the next register."""

    op: str
    """A name in the table of the pointwise kernel."""
    args: tuple[int, ...]
    """Registers."""
    dtype: str
    """Of the result."""
    value: float | Extent | None
    """Immediate operand, if the step has one; a symbolic one is an integer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PointProgram:
    """Elementwise steps over one iteration shape.

    Registers 0 .. len(operands)-1 are loaded from the operands, each view already broadcast to
    the shape; step j gives register len(operands) + j. As an epilogue, register 0 is what the
    stage itself computed and `operands[0]` is None.
    """

    shape: tuple[Extent, ...]
    operands: tuple[View | None, ...]
    steps: tuple[PointStep, ...]
    results: tuple[int, ...]
    """Registers to store, one per write of the stage."""


Operand: TypeAlias = "View | Extent | float | bool | tuple[Operand, ...] | None"
"""What a value number of the template's body stands for: a view, or known on the host."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExternCall:
    """A row of the template's body that PyTorch runs, with what its references stand for."""

    row: Row
    operands: tuple[tuple[int, Operand], ...]
    """Value number -> view or host number."""


Attr: TypeAlias = "int | float | bool | str | Extent | tuple[Attr, ...] | None"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One tile operation with its epilogue."""

    op: TileOp
    reads: tuple[View, ...]
    """In an order that the operation's folder documents; epilogue operands are not here."""
    writes: tuple[View, ...]
    attrs: tuple[tuple[str, Attr], ...]
    point: PointProgram | None
    """The program of a pointwise stage; the epilogue of another, over writes[0]."""
    extern: ExternCall | None
    rows: tuple[int, ...]
    """Rows of the template's body that this stage does, for reports."""

    def attr(self, name: str) -> Attr:
        """Give an attribute.

        Raises:
            KeyError: the stage has no such attribute.
        """
        return dict(self.attrs)[name]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lowered:
    """A template as stages."""

    buffers: tuple[Buffer, ...]
    stages: tuple[Stage, ...]
    inputs: tuple[int, ...]
    """Slot of each input."""
    outputs: tuple[int, ...]
    """Slot of each output."""
    output_shapes: tuple[tuple[Extent, ...], ...]
    weights: tuple[int, ...]
    """Slot of each template weight."""
    weight_shapes: tuple[tuple[int, ...], ...]
    """Plain shape of each template weight."""
    layouts: tuple[Layout, ...]
    """Of each template weight."""


def packed_elements(layout: Layout) -> int:
    """Count the elements of a packed weight, padding included."""
    return layout.groups * -(-layout.n // layout.nr) * layout.nr * layout.k


def stored_dtype(layout: Layout, dtype: str) -> str:
    """Give the dtype of the packed elements of a weight of some dtype."""
    return layout.stored or dtype


def plain_layout(shape: Sequence[int]) -> Layout:
    """Give the layout of a weight that is not packed."""
    order = tuple(range(len(shape)))
    return Layout(kind=LayoutKind.PLAIN, order=order, groups=1, k=1, n=math.prod(shape), nr=1)


def dense(slot: int, dtype: str, shape: tuple[Extent | str, ...]) -> View:
    """Make a C-contiguous view of a whole buffer."""
    extents = tuple(of(d) for d in shape)
    strides = tuple(product(extents[i + 1 :]) for i in range(len(extents)))
    return View(slot, dtype, extents, strides, 0)
