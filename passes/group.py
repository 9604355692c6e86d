"""Group members by template, and say of near-twins why they are not one group."""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations

import torch

from fusec.ir.plan import Reason, Refusal
from fusec.ir.template import Arg, DType, Ref, Row, Spec, Template, TensorSpec
from fusec.kernels.operators import resolve
from fusec.kernels.torch_graph import dtype_name

__all__ = ["compare", "group", "refusals"]

_ALIKE = 0.5
"""Two templates are near-twins when at least this share of their operator sequences agrees."""

_MAX_PAIRS = 2000
"""Pairs of groups looked at; comparing is quadratic in the number of groups."""


@dataclass(frozen=True, slots=True)
class _Difference:
    reason: Reason
    where: str
    first: str
    second: str


def group(templates: Mapping[str, Template]) -> dict[str, tuple[str, ...]]:
    """Group members whose templates are equal.

    Args:
        templates: member name -> its template.

    Returns:
        Template key -> member names, largest group first, ties in the order given.
    """
    groups: dict[str, list[str]] = {}
    for name, template in templates.items():
        groups.setdefault(template.key, []).append(name)
    ordered = sorted(groups.items(), key=lambda item: -len(item[1]))
    return {key: tuple(names) for key, names in ordered}


def refusals(templates: Mapping[str, Template]) -> tuple[Refusal, ...]:
    """Explain each pair of groups that are near-twins: what differs first, with both values.

    Args:
        templates: member name -> its template; one member stands for its group.

    Cost: quadratic in the number of groups, capped at `_MAX_PAIRS` pairs.
    """
    groups = group(templates)
    found = []
    pairs = list(combinations(groups.items(), 2))[:_MAX_PAIRS]
    for (_, (first, *_)), (_, (second, *_)) in pairs:
        a, b = templates[first], templates[second]
        if not _alike(a, b):
            continue
        difference = compare(a, b)
        found.append(
            Refusal(
                reason=difference.reason,
                first=first,
                second=second,
                where=difference.where,
                first_value=difference.first,
                second_value=difference.second,
            )
        )
    return tuple(sorted(found, key=lambda r: (r.reason, r.first, r.second)))


def _alike(a: Template, b: Template) -> bool:
    first, second = [r.op for r in a.body.rows], [r.op for r in b.body.rows]
    matcher = difflib.SequenceMatcher(a=first, b=second, autojunk=False)
    return matcher.quick_ratio() >= _ALIKE and matcher.ratio() >= _ALIKE


def compare(a: Template, b: Template) -> _Difference:
    """Find the first difference of two templates, the most telling kind first."""
    for difference in _differences(a, b):
        return difference
    return _Difference(Reason.WIRING, "template", a.key[:12], b.key[:12])


def _differences(a: Template, b: Template) -> Iterable[_Difference]:
    if a.bound != b.bound:
        yield _Difference(Reason.BOUND, "bound inputs", _pairs(a.bound), _pairs(b.bound))
    yield from _specs(Reason.INPUT_SHAPE, "input", a.inputs, b.inputs)
    if (a.input_axes, a.output_axes, a.rows) != (b.input_axes, b.output_axes, b.rows):
        yield _Difference(Reason.BATCH, "batch axes", _batch(a), _batch(b))
    yield from _rows(a, b)
    if len(a.weights) != len(b.weights):
        yield _Difference(
            Reason.TIED_WEIGHTS, "number of weights", str(len(a.weights)), str(len(b.weights))
        )
    yield from _specs(Reason.WEIGHT_SHAPE, "weight", a.weights, b.weights)
    if a.body.results != b.body.results:
        yield _Difference(Reason.OUTPUTS, "outputs", str(a.body.results), str(b.body.results))
    if (a.symbols, a.constraints) != (b.symbols, b.constraints):
        first, second = (f"{t.symbols} {t.constraints}" for t in (a, b))
        yield _Difference(Reason.SYMBOLS, "symbols", first, second)


def _rows(a: Template, b: Template) -> Iterable[_Difference]:
    counts: dict[str, int] = {}
    for first, second in zip(a.body.rows, b.body.rows, strict=False):
        counts[first.op] = counts.get(first.op, 0) + 1
        where = f"{_short(first.op)} #{counts[first.op]}"
        if first.op != second.op:
            yield _Difference(Reason.OPERATOR, where, _short(first.op), _short(second.op))
            return
        yield from _attributes(where, first, second, a, b)
        yield from _specs(Reason.SHAPE, f"{where}, result", (first.out,), (second.out,))
    if len(a.body.rows) != len(b.body.rows):
        yield _Difference(Reason.LENGTH, "operators", str(len(a.body.rows)), str(len(b.body.rows)))


def _attributes(
    where: str, first: Row, second: Row, a: Template, b: Template
) -> Iterable[_Difference]:
    one, two = _named(first), _named(second)
    for name in dict.fromkeys([*one, *two]):
        x, y = one.get(name), two.get(name)
        label = f"{where}, {name}"
        if isinstance(x, Ref) and isinstance(y, Ref):
            yield from _operands(label, x, y, a, b)
        elif x != y or type(x) is not type(y):
            yield _Difference(Reason.ATTRIBUTE, label, _literal(x), _literal(y))


def _operands(label: str, x: Ref, y: Ref, a: Template, b: Template) -> Iterable[_Difference]:
    first, second = _describe(a, x), _describe(b, y)
    if first.startswith("weight") and second.startswith("weight"):
        yield from _specs(Reason.WEIGHT_SHAPE, label, (a.body.spec_of(x),), (b.body.spec_of(y),))
    if first != second:
        tied = len(a.weights) != len(b.weights)
        yield _Difference(Reason.TIED_WEIGHTS if tied else Reason.WIRING, label, first, second)


def _named(row: Row) -> dict[str, Arg]:
    """Give a call's arguments by name, those left out at their defaults."""
    target = resolve(row.op)
    schema = target._schema.arguments if isinstance(target, torch._ops.OpOverload) else ()
    names = [a.name for a in schema]
    given = {names[i] if i < len(names) else f"argument {i}": v for i, v in enumerate(row.args)}
    defaults = {a.name: _plain(a.default_value) for a in schema}
    return defaults | given | dict(row.kwargs)


def _plain(value: object) -> Arg:
    if isinstance(value, list):
        return tuple(_plain(v) for v in value)
    if isinstance(value, torch.dtype):
        return DType(dtype_name(value))
    return value if isinstance(value, bool | int | float | str) else None


def _specs(
    reason: Reason, label: str, first: tuple[Spec, ...], second: tuple[Spec, ...]
) -> Iterable[_Difference]:
    if len(first) != len(second):
        yield _Difference(reason, f"number of {label}s", str(len(first)), str(len(second)))
    for i, (x, y) in enumerate(zip(first, second, strict=False)):
        if x == y:
            continue
        where = f"{label} {i}" if len(first) > 1 else label
        if isinstance(x, TensorSpec) and isinstance(y, TensorSpec):
            if x.dtype != y.dtype:
                yield _Difference(Reason.DTYPE, where, x.dtype, y.dtype)
            else:
                yield _Difference(reason, where, str(list(x.shape)), str(list(y.shape)))
        else:
            yield _Difference(reason, where, str(x), str(y))


def _describe(template: Template, ref: Ref) -> str:
    n_inputs, n_arguments = template.n_inputs, len(template.body.arguments)
    if ref.index < n_inputs:
        return f"input {ref.index}"
    if ref.index < n_arguments:
        return f"weight {ref.index - n_inputs}"
    row = ref.index - n_arguments
    return f"result of {_short(template.body.rows[row].op)} (row {row})"


def _literal(value: Arg) -> str:
    if isinstance(value, tuple):
        return "[" + ", ".join(_literal(v) for v in value) + "]"
    return "not given" if value is None else str(value)


def _short(op: str) -> str:
    return op.removeprefix("aten.").removesuffix(".default")


def _pairs(bound: tuple[tuple[str, str], ...]) -> str:
    return ", ".join(f"{k}={v}" for k, v in bound) or "none"


def _batch(template: Template) -> str:
    return f"{list(template.input_axes)} -> {list(template.output_axes)}, {template.rows}"
