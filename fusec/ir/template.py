"""The template: what is left of a model once its weights are lifted out, as plain data.

    Body      rows over numbered values: arguments first, then one value per row
    Template  a body over (inputs, then packed weights) plus all else that members must share
    Recipe    a body over raw weights whose results are the packed weights, then guard operands

Values are numbered in one sequence, so a reference is one integer:

    arguments          rows
    0 .. A-1           A .. A+R-1
"""

import hashlib
import json
from enum import StrEnum
from functools import cached_property
from typing import TypeAlias

from fusec.ir.errors import VerifyError
from fusec.ir.frozen import dataclass
from fusec.ir.records import to_json

__all__ = [
    "Arg",
    "Body",
    "DType",
    "Dim",
    "Guard",
    "Predicate",
    "Recipe",
    "Ref",
    "Row",
    "RowsKind",
    "Spec",
    "Symbol",
    "Template",
    "TensorSpec",
]


@dataclass(frozen=True, slots=True)
class Ref:
    """A value by its number: an argument, or the result of a row."""

    index: int


@dataclass(frozen=True, slots=True)
class DType:
    """A dtype given as an attribute, by its torch name: float32, int64, bool, ..."""

    name: str


Dim: TypeAlias = int | str
"""A fixed extent, or an expression over the template's symbols such as "s0" or "2*s0 + 1"."""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """Dtype and shape of a tensor value."""

    dtype: str
    shape: tuple[Dim, ...]


Spec: TypeAlias = "TensorSpec | str | tuple[Spec, ...]"
"""A tensor, a host number ("int", "float", "bool"), or several values of one row."""

Arg: TypeAlias = "Ref | DType | Body | tuple[Arg, ...] | str | int | float | bool | None"
"""An operand or attribute of a row."""


@dataclass(frozen=True, slots=True)
class Row:
    """One operator call: its name, operands and attributes, and what it gives."""

    op: str
    args: tuple[Arg, ...]
    kwargs: tuple[tuple[str, Arg], ...]
    out: Spec


@dataclass(frozen=True, slots=True)
class Body:
    """Rows in a canonical order over numbered values; results are returned in order."""

    arguments: tuple[Spec, ...]
    rows: tuple[Row, ...]
    results: tuple[Arg, ...]

    def spec_of(self, arg: Arg) -> Spec:
        """Give the spec of a referenced value.

        Raises:
            VerifyError: the operand is a literal.
        """
        if not isinstance(arg, Ref):
            raise VerifyError(f"{arg!r} is no reference")
        n = len(self.arguments)
        return self.arguments[arg.index] if arg.index < n else self.rows[arg.index - n].out


class Predicate(StrEnum):
    """What a guard asks of a weight's value."""

    EQUALS = "equals"
    """Every element equals the operand, bit for bit in the weight's dtype."""

    CAUSAL_MASK = "causal_mask"
    """Additive or boolean mask: nothing masked at or below the diagonal, all above it."""

    IDENTITY_ORDER = "identity_order"
    """Integers 0, 1, 2, ... in order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """A promise about a weight's value that a rewrite relied on."""

    predicate: Predicate
    operand: float | None
    text: str
    """The promise in words, with the raw weight's name."""


@dataclass(frozen=True, slots=True)
class Symbol:
    """An extent that varies between requests, with its inclusive range (max None: no limit)."""

    name: str
    min: int
    max: int | None


class RowsKind(StrEnum):
    """What a request with several rows means."""

    INDEPENDENT = "rows_independent"
    """Each row is an instance of its own; checked against the source at import."""

    SINGLE_ROW = "single_row"
    """The source cannot run two rows; each row is a run of the source."""

    WHOLE_REQUEST = "whole_request"
    """Rows depend on each other, or there is no batch axis: one request is one instance."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How raw weights become packed weights: results are packed weights, then guard operands."""

    names: tuple[str, ...]
    """Raw weight names, one per argument of the body."""
    aliases: tuple[tuple[str, str], ...]
    """Other names of tied weights: (alias, name in `names`)."""
    unused: tuple[str, ...]
    """Names that may come along in a state dict and have no effect."""
    body: Body
    guards: tuple[Guard, ...]
    """One per trailing result of the body."""


@dataclass(frozen=True, kw_only=True)
class Template:
    """Everything that members of a group share; equal templates form a group.

    This is the merge key of DESIGN section 4: each field takes part in equality, none has a
    default, so a new one cannot be forgotten.
    """

    n_inputs: int
    body: Body
    symbols: tuple[Symbol, ...]
    constraints: tuple[str, ...]
    input_axes: tuple[int | None, ...]
    output_axes: tuple[int | None, ...]
    rows: RowsKind
    bound: tuple[tuple[str, str], ...]

    @cached_property
    def inputs(self) -> tuple[Spec, ...]:
        """Specs of the inputs at one row."""
        return self.body.arguments[: self.n_inputs]

    @cached_property
    def weights(self) -> tuple[Spec, ...]:
        """Specs of the packed weights."""
        return self.body.arguments[self.n_inputs :]

    @cached_property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """Specs of the outputs at one row.

        Raises:
            VerifyError: a result is no tensor.
        """
        specs = tuple(map(self.body.spec_of, self.body.results))
        tensors = tuple(spec for spec in specs if isinstance(spec, TensorSpec))
        if len(tensors) != len(specs):
            raise VerifyError(f"results {specs} are not all tensors")
        return tensors

    @cached_property
    def key(self) -> str:
        """Sha-256 of the canonical JSON: equal exactly when the templates are equal."""
        text = json.dumps(to_json(self), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()
