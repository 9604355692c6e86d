"""Arithmetic on vectors while LLVM code is being built: what `math` is written in.

    x = Lanes(builder, value)       (x * x).fma(c, 1.0)        (x > 0.0).select(x, -x)

A plain number beside a vector is repeated in all its lanes, in the vector's own type.
"""

from typing import Any, TypeAlias

from llvmlite import ir

from fusec.kernels.codegen.vectors import call_llvm

__all__ = ["Lanes", "Operand"]

Operand: TypeAlias = "Lanes | float | int"

_NAMES = {"float": "f32", "double": "f64", "i64": "i64", "i32": "i32", "i16": "i16", "i8": "i8"}


class Lanes:
    """A vector of floats, integers or truth values, and the builder that its code goes to."""

    def __init__(self, builder: Any, value: Any) -> None:
        """Wrap an LLVM vector."""
        self.builder, self.value = builder, value

    @property
    def element(self) -> ir.Type:
        """LLVM type of one lane."""
        return self.value.type.element

    @property
    def count(self) -> int:
        """How many lanes."""
        return int(self.value.type.count)

    @property
    def is_float(self) -> bool:
        """Tell floats from integers and truth values."""
        return isinstance(self.element, ir.FloatType | ir.DoubleType)

    # Making vectors.

    def like(self, value: Operand) -> "Lanes":
        """Give an operand as a vector of this type."""
        if isinstance(value, Lanes):
            return value
        number = float(value) if self.is_float else int(value)
        return self._new(ir.Constant(self.value.type, [number] * self.count))

    def _new(self, value: Any) -> "Lanes":
        return Lanes(self.builder, value)

    def _vector(self, element: ir.Type) -> ir.Type:
        return ir.VectorType(element, self.count)

    def _both(self, floats: str, integers: str, other: Operand) -> "Lanes":
        method = getattr(self.builder, floats if self.is_float else integers)
        return self._new(method(self.value, self.like(other).value))

    def call(self, name: str, *others: Operand) -> "Lanes":
        """Call an LLVM intrinsic of vectors of this type, such as `sqrt`."""
        full = f"llvm.{name}.v{self.count}{_NAMES[str(self.element)]}"
        args = [self.value, *(self.like(o).value for o in others)]
        return self._new(call_llvm(self.builder, full, self.value.type, args))

    # Arithmetic.

    def __add__(self, other: Operand) -> "Lanes":
        return self._both("fadd", "add", other)

    def __radd__(self, other: Operand) -> "Lanes":
        return self.like(other) + self

    def __sub__(self, other: Operand) -> "Lanes":
        return self._both("fsub", "sub", other)

    def __rsub__(self, other: Operand) -> "Lanes":
        return self.like(other) - self

    def __mul__(self, other: Operand) -> "Lanes":
        return self._both("fmul", "mul", other)

    def __rmul__(self, other: Operand) -> "Lanes":
        return self.like(other) * self

    def __truediv__(self, other: Operand) -> "Lanes":
        return self._both("fdiv", "sdiv", other)

    def __rtruediv__(self, other: Operand) -> "Lanes":
        return self.like(other) / self

    def __neg__(self) -> "Lanes":
        return self._new(self.builder.fneg(self.value)) if self.is_float else 0 - self

    def fma(self, factor: Operand, addend: Operand) -> "Lanes":
        """Give self * factor + addend, rounded once."""
        return self.call("fma", factor, addend)

    # Bits and truth values.

    def __and__(self, other: Operand) -> "Lanes":
        return self._new(self.builder.and_(self.value, self.like(other).value))

    def __or__(self, other: Operand) -> "Lanes":
        return self._new(self.builder.or_(self.value, self.like(other).value))

    def __xor__(self, other: Operand) -> "Lanes":
        return self._new(self.builder.xor(self.value, self.like(other).value))

    def __invert__(self) -> "Lanes":
        return self._new(self.builder.not_(self.value))

    def __lshift__(self, count: Operand) -> "Lanes":
        return self._new(self.builder.shl(self.value, self.like(count).value))

    def __rshift__(self, count: Operand) -> "Lanes":
        return self._new(self.builder.ashr(self.value, self.like(count).value))

    def select(self, yes: "Lanes", no: Operand) -> "Lanes":
        """Take lanes of `yes` where this truth value holds, of `no` elsewhere."""
        return self._new(self.builder.select(self.value, yes.value, yes.like(no).value))

    # Comparing: NaN is unequal to all, itself included, and neither less nor greater.

    def compare(self, sign: str, other: Operand) -> "Lanes":
        """Compare lane by lane; `sign` is one of == != < <= > >=."""
        a, b = self.value, self.like(other).value
        if not self.is_float:
            return self._new(self.builder.icmp_signed(sign, a, b))
        compare = self.builder.fcmp_unordered if sign == "!=" else self.builder.fcmp_ordered
        return self._new(compare(sign, a, b))

    def __lt__(self, other: Operand) -> "Lanes":
        return self.compare("<", other)

    def __le__(self, other: Operand) -> "Lanes":
        return self.compare("<=", other)

    def __gt__(self, other: Operand) -> "Lanes":
        return self.compare(">", other)

    def __ge__(self, other: Operand) -> "Lanes":
        return self.compare(">=", other)

    def is_nan(self) -> "Lanes":
        """Tell which lanes are NaN."""
        return self.compare("!=", self)

    # Converting.

    def to_int(self, bits: int) -> "Lanes":
        """Convert floats towards zero, or integers to another width."""
        target = self._vector(ir.IntType(bits))
        if self.is_float:
            return self._new(self.builder.fptosi(self.value, target))
        have = self.element.width
        if have == 1:
            return self._new(self.builder.zext(self.value, target))
        method = self.builder.sext if have < bits else self.builder.trunc
        return self if have == bits else self._new(method(self.value, target))

    def to_float(self, element: ir.Type) -> "Lanes":
        """Convert to `ir.FloatType()` or `ir.DoubleType()`, to the nearest."""
        target = self._vector(element)
        if not self.is_float:
            method = self.builder.uitofp if self.element.width == 1 else self.builder.sitofp
        elif self.element == element:
            return self
        else:
            wider = isinstance(element, ir.DoubleType)
            method = self.builder.fpext if wider else self.builder.fptrunc
        return self._new(method(self.value, target))

    def bits(self) -> "Lanes":
        """Give the bits of floats."""
        width = 64 if isinstance(self.element, ir.DoubleType) else 32
        return self._new(self.builder.bitcast(self.value, self._vector(ir.IntType(width))))

    def from_bits(self) -> "Lanes":
        """Read floats from bits."""
        element = ir.DoubleType() if self.element.width == 64 else ir.FloatType()
        return self._new(self.builder.bitcast(self.value, self._vector(element)))
