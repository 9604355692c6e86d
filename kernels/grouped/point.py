"""The ends of grouped kernels: loads, pointwise programs and stores, over a tile of any frame.

A frame is a tuple of coordinates that broadcast to the tile, the last one along its columns; views
have a stride for each. Programs are constants: Triton evaluates their text while it compiles.
"""

import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from fusec.kernels.grouped.extremes import round_bf16
from fusec.kernels.grouped.steps import function_of

__all__ = [
    "finish",
    "layer_at",
    "memory_type",
    "pointer",
    "ready",
    "tile_at",
    "vector",
    "view_offset",
    "widened",
]


@triton.constexpr_function
def memory_type(dtype):
    """Give the type of a dtype in memory."""
    types = {"bool": tl.int8, "float32": tl.float32, "float64": tl.float64}
    types |= {"float16": tl.float16, "bfloat16": tl.bfloat16, "int64": tl.int64}
    types |= {"int32": tl.int32, "int16": tl.int16, "int8": tl.int8, "uint8": tl.uint8}
    return types[dtype]


@triton.constexpr_function
def vector(dtype, aligned):
    """Give the elements in as many bytes, 1 at least."""
    sizes = {"bool": 1, "int8": 1, "uint8": 1, "float16": 2, "bfloat16": 2, "int16": 2}
    return max(1, aligned // (8 if dtype in ("int64", "float64") else sizes.get(dtype, 4)))


@triton.constexpr_function
def _count(text, part, separator):
    items = text.split("|")[part]
    return len(items.split(separator)) if items else 0


@triton.constexpr_function
def _own(text, number):
    return text.split("|")[0].split(",")[number].startswith("self")


@triton.constexpr_function
def _dtype(text, part, number):
    return text.split("|")[part].split(",")[number].split(":")[0].removeprefix("self ")


@triton.constexpr_function
def _contiguous(text, part, number):
    return text.split("|")[part].split(",")[number].split(":")[1] == "1"


@triton.constexpr_function
def _aligned(text, part, number):
    return int(text.split("|")[part].split(",")[number].split(":")[2])


@triton.constexpr_function
def _stored(text, number):
    return int(text.split("|")[2].split(",")[number].split(":")[3])


@triton.constexpr_function
def _place(text, part, number, axes):
    """Give the number of words before a view's."""
    loads = [load for load in text.split("|")[0].split(",") if load]
    before = loads[:number] if part == 0 else [*loads, *[""] * number]
    return (1 + axes) * sum(not load.startswith("self") for load in before)


@triton.constexpr_function
def _immediate(text, number):
    return text.split("|")[1].split(";")[number].split(":")[2][:1]


@triton.constexpr_function
def _value(text, number):
    value = text.split("|")[1].split(";")[number].split(":")[2]
    return float(value[1:]) if value[0] == "f" else int(value[1:])


@triton.constexpr_function
def _operand(text, number, which):
    return int(text.split("|")[1].split(";")[number].split(":")[1].split(",")[which])


@triton.constexpr_function
def _operands(text, number):
    registers = text.split("|")[1].split(";")[number].split(":")[1]
    return len(registers.split(",")) if registers else 0


@triton.constexpr_function
def _step(text, number):
    return text.split("|")[1].split(";")[number].split(":")[0]


@triton.constexpr_function
def _last_class(text, number):
    """Give the type of a step's immediate, by the class in its name."""
    kind = text.split("|")[1].split(";")[number].split(":")[0].rpartition("_")[2]
    types = {"f32": tl.float32, "f64": tl.float64, "i64": tl.int64, "i32": tl.int32}
    return types.get(kind, tl.int1)


@triton.jit
def pointer(words, AT: tl.constexpr, DTYPE: tl.constexpr, ALIGNED: tl.constexpr):
    """Read the address of a view.

    Args:
        words: a row of the table.
        AT: number of the word.
        DTYPE: of what is there.
        ALIGNED: what it is a multiple of, in bytes.
    """
    start = tl.load(words + AT).to(tl.pointer_type(memory_type(DTYPE)))
    return tl.multiple_of(start, ALIGNED)


@triton.jit
def ready(OVERLAP: tl.constexpr):
    """Let the next kernel of the stream get going, and wait until the one before is over.

    Both do nothing where launches do not overlap. A kernel touches no memory before.
    """
    if OVERLAP:
        gdc_launch_dependents()
        gdc_wait()


@triton.jit
def tile_at(table, tiles, at, WORDS: tl.constexpr):
    """Give a tile's row of the table, its block of rows and its block of columns."""
    row = tl.load(tiles + at * 4).to(tl.int64)
    return table + row * WORDS, tl.load(tiles + at * 4 + 1), tl.load(tiles + at * 4 + 2)


@triton.jit
def layer_at(tiles, at):
    """Give a tile's layer."""
    return tl.load(tiles + at * 4 + 3)


@triton.jit
def widened(x, DTYPE: tl.constexpr):
    """Give what a register holds of memory."""
    if DTYPE == "float16" or DTYPE == "bfloat16":
        return x.to(tl.float32)
    elif DTYPE == "int16" or DTYPE == "int8" or DTYPE == "uint8":
        return x.to(tl.int32)
    elif DTYPE == "bool":
        return x != 0
    else:
        return x


@triton.jit
def _rounded(x, DTYPE: tl.constexpr):
    """Round what a stage computed to the dtype that it gives, as if it had been stored."""
    if DTYPE == "float16":
        return x.to(tl.float16).to(tl.float32)
    elif DTYPE == "bfloat16":
        return round_bf16(x)
    elif DTYPE == "bool":
        return x != 0
    else:
        return widened(x.to(memory_type(DTYPE)), DTYPE)


@triton.jit
def view_offset(words, AT: tl.constexpr, CONTIGUOUS: tl.constexpr, frame):
    """Give how far elements of a view are from its first.

    Args:
        words: a row of the table.
        AT: where the strides are.
        CONTIGUOUS: along the last axis.
        frame: coordinates.
    """
    offset = tl.zeros_like(frame[0]).to(tl.int64)
    for axis in tl.static_range(len(frame)):
        if CONTIGUOUS and axis == len(frame) - 1:
            offset = offset + frame[axis]
        else:
            offset = offset + frame[axis] * tl.load(words + AT + axis)
    return offset


@triton.jit
def finish(words, AT: tl.constexpr, PROGRAM: tl.constexpr, own, frame, mask):
    """Run a pointwise program over a tile and store what it gives.

    Args:
        words: a row of the table.
        AT: where the program's words begin.
        PROGRAM: its text.
        own: what the stage itself computed; any number where the program does not take it.
        frame: coordinates.
        mask: which elements there are.
    """
    registers = ()
    for i in tl.static_range(_count(PROGRAM, 0, ",")):
        if _own(PROGRAM, i):
            registers = registers + (_rounded(own, _dtype(PROGRAM, 0, i)),)
        else:
            start = pointer(
                words,
                AT + _place(PROGRAM, 0, i, len(frame)),
                _dtype(PROGRAM, 0, i),
                _aligned(PROGRAM, 0, i),
            )
            offset = view_offset(
                words,
                AT + 1 + _place(PROGRAM, 0, i, len(frame)),
                _contiguous(PROGRAM, 0, i),
                frame,
            )
            loaded = tl.load(start + offset, mask=mask, other=0)
            registers = registers + (widened(loaded, _dtype(PROGRAM, 0, i)),)
    registers = _computed(words, AT, PROGRAM, len(frame), registers)
    for i in tl.static_range(_count(PROGRAM, 2, ",")):
        start = pointer(
            words,
            AT + _place(PROGRAM, 2, i, len(frame)),
            _dtype(PROGRAM, 2, i),
            _aligned(PROGRAM, 2, i),
        )
        offset = view_offset(
            words,
            AT + 1 + _place(PROGRAM, 2, i, len(frame)),
            _contiguous(PROGRAM, 2, i),
            frame,
        )
        value = registers[_stored(PROGRAM, i)].to(memory_type(_dtype(PROGRAM, 2, i)))
        tl.store(start + offset, value, mask=mask)


@triton.jit
def _computed(words, AT: tl.constexpr, PROGRAM: tl.constexpr, AXES: tl.constexpr, registers):
    for i in tl.static_range(_count(PROGRAM, 1, ";")):
        given = ()
        for j in tl.static_range(_operands(PROGRAM, i)):
            given = given + (registers[_operand(PROGRAM, i, j)],)
        if _immediate(PROGRAM, i) == "w":
            word = tl.load(
                words + AT + _place(PROGRAM, 2, _count(PROGRAM, 2, ","), AXES) + _value(PROGRAM, i)
            )
            given = given + (word.to(_last_class(PROGRAM, i)),)
        elif _immediate(PROGRAM, i) != "":
            given = given + (tl.full((), _value(PROGRAM, i), _last_class(PROGRAM, i)),)
        if len(given) == 1:
            registers = registers + (function_of(_step(PROGRAM, i))(given[0]),)
        elif len(given) == 2:
            registers = registers + (function_of(_step(PROGRAM, i))(given[0], given[1]),)
        else:
            registers = registers + (function_of(_step(PROGRAM, i))(given[0], given[1], given[2]),)
    return registers
