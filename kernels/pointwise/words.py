"""Pointwise programs as words for the machine.

A program is, in int64 words (word 0 is 0 where there is none):

    0  number of words, of loads, of constants, of steps, of results; elements of a block
    6  loads         each  slot, offset, steps of d0, d1, row, column, dtype, register, place,
                           bytes of an element of the register, whether memory will do as register
       constants     each  register, bits, place, bytes
       steps         each  code, register, place, bytes of a vector, first, second, third
       results       each  as loads

Offsets and steps are bytes. Registers are numbers; a register's place is a byte offset in
scratch, shared by registers that are not needed at the same time. Where memory lies as a register
would, the machine reads and writes it in place.
"""

import struct
from collections.abc import Sequence

from fusec.ir.dtypes import itemsize_bytes
from fusec.ir.extents import Extent, Poly
from fusec.ir.frozen import dataclass
from fusec.ir.stage import PointProgram, Stage, View
from fusec.kernels.pointwise.steps import CLASS_OF, CLASSES, NATIVE, STEPS

__all__ = [
    "CONSTANT_WORDS",
    "HEAD_BYTES",
    "HEAD_WORDS",
    "MAX_REGISTERS",
    "MAX_VIEWS",
    "POINT_SCRATCH_BYTES",
    "STEP_WORDS",
    "VIEW_WORDS",
    "double_bits",
    "float_bits",
    "point_words",
    "program_words",
]

MAX_REGISTERS = 128
"""Operands, constants and steps together."""

MAX_VIEWS = 64
"""Operands and results together."""

HEAD_WORDS, VIEW_WORDS, CONSTANT_WORDS, STEP_WORDS = 6, 11, 4, 7
HEAD_BYTES = 8 * (2 * MAX_REGISTERS + MAX_VIEWS)
"""Scratch begins with the address and step of every register, and the address of every view."""

_PLACE_BYTES = 24 << 10
_BLOCK = 1024
_CONSTANT_BYTES = 128

POINT_SCRATCH_BYTES = HEAD_BYTES + _PLACE_BYTES
"""What a kernel that calls the machine gives it."""

_DTYPES = tuple(CLASS_OF)
_CODES = {name: code for code, name in enumerate(STEPS)}


def float_bits(x: float) -> int:
    """Give the 32 bits of a float rounded to float32."""
    return int(struct.unpack("<I", struct.pack("<f", _to_f32(x)))[0])


def double_bits(x: float) -> int:
    """Give the 64 bits of a float, as a signed integer."""
    return int(struct.unpack("<q", struct.pack("<d", x))[0])


def _to_f32(x: float) -> float:
    try:
        return float(struct.unpack("<f", struct.pack("<f", x))[0])
    except OverflowError:
        return float("inf") if x > 0 else float("-inf")


def point_words(stage: Stage) -> tuple[Extent, ...]:
    """Spell a stage's program in the frame (d0, d1, row, column); one word 0 if it has none.

    Args:
        stage: its program's views are of rank 4 at most.
    """
    if stage.point is None:
        return (0,)
    program = stage.point
    loads = [stage.writes[0] if view is None else view for view in program.operands]
    steps = [_frame_steps(v) for v in (*loads, *stage.writes)]
    return program_words(program, loads, stage.writes, steps)


def _frame_steps(view: View) -> tuple[Extent, ...]:
    size = itemsize_bytes(view.dtype)
    assert len(view.strides) <= 4, "the frame of an epilogue has four axes"
    return (*[0] * (4 - len(view.strides)), *(s * size for s in view.strides))


@dataclass(slots=True)
class _Places:
    """Hands out places in scratch; the unit is one element's bytes, times the block."""

    sizes: list[int]
    free: dict[int, list[int]]

    def take(self, size: int) -> int:
        """Give the number of a free place of this size."""
        spare = self.free.setdefault(size, [])
        if spare:
            return spare.pop()
        self.sizes.append(size)
        return len(self.sizes) - 1

    def give(self, place: int) -> None:
        self.free.setdefault(self.sizes[place], []).append(place)


def program_words(
    program: PointProgram,
    loads: Sequence[View],
    writes: Sequence[View],
    steps: Sequence[tuple[Extent, ...]],
) -> tuple[Extent, ...]:
    """Spell a program.

    Args:
        program: what to compute.
        loads: its operands; the stage's own result where the program says None.
        writes: where its results go.
        steps: bytes from one index to the next along four axes, of loads, then of writes.
    """
    n_loads = len(loads)
    registers, constants, code = _registers(program, loads)
    assert len(registers) <= MAX_REGISTERS and n_loads + len(writes) <= MAX_VIEWS
    results = code.results
    last = _last_uses(code.steps, results)
    places = _Places([], {})
    place_of: dict[int, int] = {}
    for r in range(n_loads):
        place_of[r] = places.take(CLASSES[registers[r]])
    # Operands that do not move by row stay in their places for the blocks to come.
    kept = {r for r in range(n_loads) if steps[r][2] == 0}
    for r in set(range(n_loads)) - last.keys() - kept:
        places.give(place_of[r])
    for j, (_, register, args) in enumerate(code.steps):
        over = {a for a in args if last[a] == j and a in place_of} - kept
        # A step may write over what it reads, but not over an operand: where that is the same
        # everywhere, one vector of it is read again and again.
        for r in over - set(range(n_loads)):
            places.give(place_of[r])
        place_of[register] = places.take(CLASSES[registers[register]])
        for r in over & set(range(n_loads)):
            places.give(place_of[r])
        if register not in last:
            places.give(place_of[register])
    room = _PLACE_BYTES - _CONSTANT_BYTES * len(constants)
    block = min(_BLOCK, room // max(sum(places.sizes), 1) // 64 * 64)
    assert block >= 64, "too many registers at once"
    starts = [HEAD_BYTES + _CONSTANT_BYTES * len(constants)]
    for size in places.sizes:
        starts.append(starts[-1] + size * block)
    words: list[Extent] = []
    for r, view in enumerate(loads):
        words += (view.slot, view.offset * itemsize_bytes(view.dtype), *steps[r])
        size = CLASSES[registers[r]]
        words += (_DTYPES.index(view.dtype), r, starts[place_of[r]], size)
        words.append(int(view.dtype in NATIVE))
    for i, (register, bits) in enumerate(constants):
        size = CLASSES[registers[register]]
        words += (register, bits, HEAD_BYTES + _CONSTANT_BYTES * i, size)
    for name, register, args in code.steps:
        words += (_CODES[name], register, starts[place_of[register]])
        words.append(16 * CLASSES[registers[register]])
        words += (*args, *[0] * (3 - len(args)))
    direct = _direct(code.steps, results, loads, writes)
    for r, view, steps_, fits in zip(results, writes, steps[n_loads:], direct, strict=True):
        words += (view.slot, view.offset * itemsize_bytes(view.dtype), *steps_)
        size = CLASSES[registers[r]]
        words += (_DTYPES.index(view.dtype), r, starts[place_of[r]], size, int(fits))
    head = (HEAD_WORDS + len(words), n_loads, len(constants), len(code.steps), len(results), block)
    return (*head, *words)


@dataclass(slots=True)
class _Code:
    """Steps over registers as the machine numbers them, constants among them."""

    steps: list[tuple[str, int, tuple[int, ...]]]
    results: list[int]


def _registers(
    program: PointProgram, loads: Sequence[View]
) -> tuple[list[str], list[tuple[int, Extent]], _Code]:
    """Give the class of every register, the constants, and the steps."""
    classes = [CLASS_OF[view.dtype] for view in loads]
    number = list(range(len(loads)))
    constants: dict[tuple[str, Extent], int] = {}
    code: list[tuple[str, int, tuple[int, ...]]] = []

    def constant(kind: str, value: float | Extent) -> int:
        key = (kind, _bits(kind, value))
        if key not in constants:
            classes.append(kind)
            constants[key] = len(classes) - 1
        return constants[key]

    for step in program.steps:
        kind = STEPS[step.op]
        args = [number[a] for a in step.args]
        if step.value is not None:
            args.append(constant(kind.operands[-1], step.value))
        assert len(args) == len(kind.operands), step
        if step.op.startswith("const_"):
            number.append(args[0])
            continue
        classes.append(kind.result)
        number.append(len(classes) - 1)
        code.append((step.op, number[-1], tuple(args)))
    results: list[int] = []
    for r in program.results:
        if not any(register == number[r] for _, register, _ in code):
            # What no step makes: an operand or a constant, copied.
            kind_ = classes[number[r]]
            classes.append(kind_)
            code.append((f"same_{kind_}", len(classes) - 1, (number[r],)))
            results.append(len(classes) - 1)
        else:
            results.append(number[r])
    return classes, [(r, bits) for (_, bits), r in constants.items()], _Code(code, results)


def _bits(kind: str, value: float | Extent) -> Extent:
    if isinstance(value, Poly):
        assert kind in ("i64", "i32"), "symbols are integers"
        return value
    if kind == "f32":
        return float_bits(value)
    return double_bits(value) if kind == "f64" else int(value)


def _last_uses(
    steps: Sequence[tuple[str, int, tuple[int, ...]]], results: Sequence[int]
) -> dict[int, int]:
    """Give the last step that reads each register; results are read after all steps."""
    last = {a: j for j, (_, _, args) in enumerate(steps) for a in args}
    return last | dict.fromkeys(results, len(steps))


def _direct(
    steps: Sequence[tuple[str, int, tuple[int, ...]]],
    results: Sequence[int],
    loads: Sequence[View],
    writes: Sequence[View],
) -> list[bool]:
    """Tell which results may be computed where they go: nothing later reads what was there."""
    made = {register: j for j, (_, register, _) in enumerate(steps)}
    last = _last_uses(steps, results)
    direct = []
    for i, (r, view) in enumerate(zip(results, writes, strict=True)):
        read_later = any(
            load.slot == view.slot and last.get(k, -1) > made.get(r, 0)
            for k, load in enumerate(loads)
        )
        direct.append(
            r in made and view.dtype in NATIVE and results.index(r) == i and not read_later
        )
    return direct
