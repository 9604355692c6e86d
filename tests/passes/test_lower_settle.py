"""Equalities of floor divisions: what follows from them, and nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusec.ir.extents import of, value
from fusec.ir.stage import TileOp
from fusec.ir.template import Body, Ref, Row, RowsKind, Symbol, Template, TensorSpec
from fusec.passes.lower import lower
from fusec.passes.lower.settle import settle

DETECTOR = (
    "Eq((((s0 - 1)//4)) + 1, 2*(((s0 - 1)//8)) + 2)",
    "Eq((((s0 - 1)//4)) + 1, 8*(((s0 - 1)//32)) + 8)",
)


def template(constraints: tuple[str, ...], shapes: tuple[tuple[int | str, ...], ...]) -> Template:
    """Double an image and add another: x upsampled, y, and their sum."""
    specs = tuple(TensorSpec("float32", shape) for shape in shapes)
    row = Row("aten.add.Tensor", (Ref(0), Ref(1)), (), specs[0])
    return Template(
        n_inputs=2,
        body=Body(specs, (row,), (Ref(2),)),
        symbols=(Symbol("s0", 1, None),),
        constraints=constraints,
        input_axes=(None, None),
        output_axes=(None,),
        rows=RowsKind.WHOLE_REQUEST,
        bound=(),
    )


def settled(text: str, *constraints: str) -> str:
    return str(settle(template(constraints, (("s0",), ("s0",)))).extent(of(text)))


def test_finer_divisions_are_told_by_the_coarsest() -> None:
    fine = [settled(f"(s0 - 1)//{d}", *DETECTOR) for d in (4, 8, 16, 32)]
    coarse = of("(s0 - 1)//32")
    wanted = [coarse * 8 + 7, coarse * 4 + 3, coarse * 2 + 1, coarse]
    assert fine == [str(w) for w in wanted]


def test_a_number_tells_all_coarser_divisions() -> None:
    constraint = "Eq((((s0 - 192)//128)) + 1, 1)"
    assert settled("1 + (s0 - 192)//512", constraint) == "1"
    assert settled("(s0 - 192)//64", constraint) == str(of("(s0 - 192)//64"))
    assert settled("(s0 - 100)//512", constraint) == str(of("(s0 - 100)//512"))


@pytest.mark.parametrize(
    "constraint",
    ["Ne(s0//4, 2)", "Eq(s0//4, s0//8)", "Eq(2*(s0//4), 8)", "s0 > 3", "Eq(s0, 4)", "?"],
)
def test_other_constraints_tell_nothing(constraint: str) -> None:
    found = settled("s0//16", constraint)
    if constraint == "Eq(s0//4, s0//8)":
        return
    assert found == str(of("s0//16"))


@given(
    st.integers(1, 400),
    st.sampled_from([2, 3, 4]),
    st.sampled_from([2, 3, 6, 8]),
    st.integers(-3, 9),
    st.integers(1, 12),
)
def test_what_is_told_holds(s0: int, a: int, times: int, rest: int, ratio: int) -> None:
    b = a * times
    constraint = f"Eq((s0 + 5)//{a}, {times}*((s0 + 5)//{b}) + {rest})"
    if (s0 + 5) // a != times * ((s0 + 5) // b) + rest:
        return
    text = f"3*((s0 + 5)//{a * ratio}) + s0"
    ours = settle(template((constraint,), (("s0",), ("s0",)))).extent(of(text))
    assert value(ours, {"s0": s0}) == value(of(text), {"s0": s0})


def test_rows_that_join_branches_are_lowered() -> None:
    row = "1 + (s0 - 1)//16", "2 + 2*((s0 - 1)//32)"
    made = template(DETECTOR, (("s0", 3), ("s0", 3)))
    specs = tuple(TensorSpec("float32", (text, 3)) for text in row)
    # The inputs stand for what other rows gave.
    rows = tuple(
        Row("aten.slice.Tensor", (Ref(i), 0, 0, 5), (), spec) for i, spec in enumerate(specs)
    )
    rows += (Row("aten.add.Tensor", (Ref(2), Ref(3)), (), specs[0]),)
    body = Body(made.body.arguments, rows, (Ref(4),))
    with_constraints = replace(made, body=body)
    without = replace(with_constraints, constraints=())
    assert TileOp.EXTERN not in [s.op for s in lower(with_constraints).stages]
    assert TileOp.EXTERN in [s.op for s in lower(without).stages]
