"""Writing pointwise programs: operands as values, steps as calls, dtypes as torch promotes them.

f = Formula(low, row)
x = f.cast(f.tensor(row.args[0]), "float32")
return f.done(f.step("mul", x, f.step("sigmoid", x)))
"""

from collections.abc import Sequence
from typing import TypeAlias

from fusec.ir.extents import Extent, Poly, of
from fusec.ir.frozen import dataclass
from fusec.ir.stage import PointProgram, PointStep, TileOp, View
from fusec.ir.template import Arg, Row
from fusec.kernels.pointwise.steps import CLASS_OF, NATIVE, STEPS, cast_steps
from fusec.passes.lower.builder import Lowering, Refused
from fusec.passes.lower.views import broadcast

__all__ = ["Formula", "Number", "Operand", "Reg", "promoted"]

Number: TypeAlias = int | float | bool | Poly


@dataclass(frozen=True, slots=True)
class Reg:
    """A value of the program: an operand, or the result of a step."""

    number: int
    """A step's number, or ~number of an operand."""
    dtype: str
    rank: int
    """Of the tensor that it came from: tensors without axes promote less."""


Operand: TypeAlias = Reg | Number


class Formula:
    """One program in the making, over the shape of a row's result."""

    def __init__(self, low: Lowering, row: Row) -> None:
        """Start with nothing.

        Raises:
            Refused: the result is of a dtype that no register holds.
        """
        self.low, self.row = low, row
        self.out = low.out(row)
        self.shape: tuple[Extent, ...] = tuple(of(d) for d in self.out.shape)
        self.dtype = self.out.dtype
        self._views: list[View] = []
        self._steps: list[PointStep] = []
        if self.dtype not in CLASS_OF:
            raise Refused(f"a result of {self.dtype}")

    def tensor(self, arg: Arg) -> Reg:
        """Load a tensor operand.

        Raises:
            Refused: it is none, or has a dtype that no register holds.
        """
        return self.load(self.low.view(arg))

    def load(self, view: View) -> Reg:
        """Load a view that broadcasts to the result's shape."""
        if view.dtype not in CLASS_OF:
            raise Refused(f"an operand of {view.dtype}")
        seen = broadcast(view, self.shape)
        if seen not in self._views:
            self._views.append(seen)
        return Reg(~self._views.index(seen), view.dtype, len(view.shape))

    def operand(self, arg: Arg) -> Operand:
        """Load an operand that is a tensor or a number.

        Raises:
            Refused: it is something else.
        """
        value = self.low.value(arg)
        if isinstance(value, View):
            return self.tensor(arg)
        if value is None or isinstance(value, tuple):
            raise Refused(f"operand {arg!r} is no number")
        return value

    def step(self, op: str, *args: Operand, dtype: str | None = None) -> Reg:
        """Append a step; numbers take the dtype of the other operands.

        Args:
            op: without the class.
            args: of one dtype, a truth value in front of `where` aside.
            dtype: of the result; by default that of the last operand, bool for questions.

        Raises:
            Refused: the table has no such step for the dtype.
        """
        given = [a for a in args if isinstance(a, Reg)]
        common = given[-1].dtype
        regs = list(args)
        for i, arg in enumerate(args):
            last = i == len(args) - 1
            if not isinstance(arg, Reg):
                regs[i] = self.fitting(arg, common) if last else self.number(arg, common)
        name = f"{op}_{CLASS_OF[common]}"
        kind = STEPS.get(name)
        if kind is None or (common not in NATIVE and op not in _EXACT):
            raise Refused(f"no step {op} of {common}")
        result = dtype or ("bool" if kind.result == "b8" else common)
        value = None if isinstance(regs[-1], Reg) else regs.pop()
        numbers = tuple(r.number for r in regs if isinstance(r, Reg))
        return self._append(name, numbers, result, value)  # type: ignore[arg-type]

    def number(self, value: Number, dtype: str) -> Reg:
        """Give a number as a register."""
        return self._append(f"const_{CLASS_OF[dtype]}", (), dtype, self.fitting(value, dtype))

    def cast(self, value: Operand, dtype: str) -> Reg:
        """Convert to a dtype."""
        if not isinstance(value, Reg):
            return self.number(value, dtype)
        if dtype not in CLASS_OF:
            raise Refused(f"a cast to {dtype}")
        for name, result in cast_steps(value.dtype, dtype):
            value = self._append(name, (value.number,), result, None)
        return value

    def done(self, *results: Reg) -> View:
        """Emit the stage; give its (first) result."""
        n = len(self._views)
        steps = tuple(
            PointStep(s.op, tuple(self._register(a) for a in s.args), s.dtype, s.value)
            for s in self._steps
        )
        writes = [self.low.new_like(self._views, r.dtype, self.shape) for r in results]
        if writes[0].dtype != self.dtype:
            raise Refused(f"{self.row.op} would give {writes[0].dtype}, not {self.dtype}")
        program = PointProgram(
            shape=self.shape,
            operands=tuple(self._views),
            steps=steps,
            results=tuple(self._register(r.number) for r in results),
        )
        assert n + len(steps) > 0
        self.low.emit(TileOp.POINTWISE, (), writes, point=program)
        return writes[0]

    def _register(self, number: int) -> int:
        return ~number if number < 0 else len(self._views) + number

    def _append(
        self, name: str, args: tuple[int, ...], dtype: str, value: float | Extent | None
    ) -> Reg:
        self._steps.append(PointStep(name, args, dtype, value))
        return Reg(len(self._steps) - 1, dtype, 1)

    @staticmethod
    def fitting(value: Number, dtype: str) -> float | Extent:
        """Give a number as an immediate of a dtype.

        Raises:
            Refused: it would change, other than by rounding.
        """
        floating = CLASS_OF[dtype] in ("f32", "f64")
        if isinstance(value, Poly):
            if dtype not in ("int64", "int32"):
                raise Refused(f"a symbol as {dtype}")
            return value
        if floating:
            return float(value)
        if isinstance(value, float) and not value.is_integer():
            raise Refused(f"{value} as {dtype}")
        if dtype == "bool":
            return int(bool(value))
        low, high = _RANGES[dtype]
        if not low <= value <= high:
            raise Refused(f"{value} as {dtype}")
        return int(value)


_EXACT = frozenset({"where", "same", "eq", "ne", "lt", "le", "gt", "ge", "isnan", "isinf"})
"""Steps whose results are of a narrow dtype if their operands are."""

_RANGES = {
    "int64": (-(2**63), 2**63 - 1),
    "int32": (-(2**31), 2**31 - 1),
    "int16": (-(2**15), 2**15 - 1),
    "int8": (-128, 127),
    "uint8": (0, 255),
}

_INTEGERS = ("uint8", "int8", "int16", "int32", "int64")
_FLOATS = ("float16", "bfloat16", "float32", "float64")


def promoted(operands: Sequence[Operand]) -> str:
    """Give the dtype in which torch computes with operands.

    Tensors without axes, and numbers, decide only by being integers, floats or truth values.

    Raises:
        Refused: the dtypes are of kinds that are not done here.
    """
    ranked = _joined([o.dtype for o in operands if isinstance(o, Reg) and o.rank])
    single = _joined([o.dtype for o in operands if isinstance(o, Reg) and not o.rank])
    numbers = _joined([_of_number(o) for o in operands if not isinstance(o, Reg)])
    result = _combined(_combined(ranked, single), numbers)
    if result is None:
        raise Refused("no operands")
    return result


def _of_number(value: Number) -> str:
    if isinstance(value, bool):
        return "bool"
    return "float32" if isinstance(value, float) else "int64"


def _combined(high: str | None, low: str | None) -> str | None:
    if high is None or low is None:
        return high or low
    if high not in _FLOATS and (high == "bool" or low in _FLOATS):
        return _joined([high, low])
    return high


def _joined(dtypes: Sequence[str]) -> str | None:
    result: str | None = None
    for dtype in dtypes:
        result = dtype if result is None or result == dtype else _pair(result, dtype)
    return result


def _pair(a: str, b: str) -> str:
    for kinds in (_FLOATS, _INTEGERS):
        found = [d for d in (a, b) if d in kinds]
        if len(found) == 1:
            return found[0]
        if len(found) == 2:
            if {"float16", "bfloat16"} == set(found) or ("uint8" in found and "int8" in found):
                raise Refused(f"{a} with {b}")
            return max(found, key=kinds.index)
    return "bool"
