"""Expressions over extents and the check of a request against them."""

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusec.ir.errors import ArtifactError, FusecError
from fusec.ir.expressions import evaluate, parse
from fusec.ir.symbols import ExtentError, check_request, holds
from fusec.ir.template import Symbol, TensorSpec


def spec(*shape):
    return TensorSpec("float32", shape)


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("2*s0 + 1", 15), ("s0//2", 3), ("FloorDiv(s0, 2)", 3), ("-s0 + 9", 2), ("s0**2", 49),
        ("Mod(s0, 4)", 3), ("PythonMod(-s0, 4)", 1), ("s0 % 4", 3), ("Max(1, s0, s1)", 12),
        ("Min(s0, s1)", 7), ("(s0 + s1)/19", 1), ("CeilDiv(s0, 2)", 4), ("(s1/2) + s1/2", 12),
        ("TruncToInt(IntTrueDiv(s0, 2))", 3), ("CeilToInt(IntTrueDiv(s0, 2))", 4),
        ("TruncToInt(2.0*ToFloat(s0))", 14), ("Piecewise((1, s0 > 9), (s1, True))", 12),
        ("Where(s0 > 9, 1, 2)", 2), ("ModularIndexing(s1, 2, 4)", 2), ("floor(s0/2)", 3),
    ],
)  # fmt: skip
def test_extent(text, want):
    assert evaluate(text, {"s0": 7, "s1": 12}) == want


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("s0 == 7", True), ("Eq(s0, 8)", False), ("Ne(s0, 8)", True), ("3 < s0 <= 7", True),
        ("(s0 > 2) & (s1 > 12)", False), ("(s0 > 9) | (s1 >= 12)", True), ("not s0 > 2", False),
        ("~(s0 > 9)", True), ("Mod(s0, s0 - 7) == 0", False), ("And(s0 > 1, s1 > 1)", True),
    ],
)  # fmt: skip
def test_constraint(text, want):
    assert holds(text, {"s0": 7, "s1": 12}) is want


@pytest.mark.parametrize(
    "text",
    [
        "", "s0 +", "s0.real", "__import__('os')", "[s0]", "s0[0]", "lambda: 1", "'a'", "f(s0)",
        "s0 if s0 else 1", "s0 in s1", "max(*s0)", "Max(key=1)", "s0 := 3", "1j", "(" * 500,
        "-" * 300 + "s0", "s0 " + "+ s0" * 4000, "9**9**9", "2**(3*s0)", "s2", "s0/2", "1/(s0 - 7)",
        "s0 @ s1", "10000000000**16*10000000000**16", "None", "nan",
    ],
)  # fmt: skip
def test_bad_text_is_one_clear_error(text):
    with pytest.raises(ArtifactError):
        evaluate(text, {"s0": 7, "s1": 25})


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="s01 29+-*/%()<>=!&|~,.abMaxodEq[]{}'\"\\\n\x00", max_size=40))
def test_any_text_parses_or_is_refused(text):
    with contextlib.suppress(ArtifactError):
        evaluate(text, {"s0": 7, "s1": 12})


EXPRESSIONS = st.recursive(
    st.sampled_from(["s0", "s1", "1", "2", "3", "17"]),
    lambda inner: st.tuples(inner, st.sampled_from(["+", "-", "*", "//", "%"]), inner).map(
        lambda t: f"({t[0]} {t[1]} {t[2]})"
    ),
    max_leaves=8,
)


@settings(max_examples=200, deadline=None)
@given(EXPRESSIONS, st.integers(0, 50), st.integers(0, 50))
def test_arithmetic_is_python_arithmetic(text, a, b):
    try:
        want = eval(text, {"s0": a, "s1": b})
    except ZeroDivisionError:
        with pytest.raises(ArtifactError):
            evaluate(text, {"s0": a, "s1": b})
        return
    assert evaluate(text, {"s0": a, "s1": b}) == want


S0, S1 = Symbol("s0", 2, 64), Symbol("s1", 1, None)


def test_symbols_come_from_bare_axes():
    got = check_request([spec(1, "s0"), spec("s1", "s0 + 1")], [(1, 5), (9, 6)], [S0, S1], [])
    assert got == {"s0": 5, "s1": 9}


def test_symbols_come_from_expressions():
    specs = [spec("2*s0 + 3"), spec("s0 + 3*s1")]
    assert check_request(specs, [(13,), (11,)], [S0, S1], []) == {"s0": 5, "s1": 2}
    assert check_request([spec("s0**2")], [(49,)], [S0], []) == {"s0": 7}


@settings(max_examples=100, deadline=None)
@given(st.integers(2, 64), st.integers(1, 40), st.integers(1, 5), st.integers(-1, 5))
def test_solving_inverts_evaluation(s0, s1, a, b):
    specs = [spec(f"{a}*s0 + {b}", f"s1*s0 + {b}")]
    shape = tuple(evaluate(t, {"s0": s0, "s1": s1}) for t in specs[0].shape)
    assert check_request(specs, [shape], [S0, S1], []) == {"s0": s0, "s1": s1}


@pytest.mark.parametrize(
    ("specs", "shapes", "constraints", "text"),
    [
        ([spec("s0", 4)], [(3, 5)], [], "axis 1 of input 0 is 5, wanted 4"),
        ([spec("s0"), spec("s0")], [(3,), (4,)], [], "axis 0 of input 1 is 4, wanted 3"),
        ([spec("s0")], [(1,)], [], "is 1, the model takes 2 to 64"),
        ([spec("s0")], [(65,)], [], "is 65, the model takes 2 to 64"),
        ([spec("s0")], [(3, 3)], [], "has 2 axes, wanted 1"),
        ([spec("2*s0")], [(7,)], [], "no extent fits"),
        ([spec("s0//2")], [(7,)], [], "2 extents fit"),
        ([spec("s0")], [(5,)], ["Mod(s0, 2) == 0"], "needs Mod.*false for s0 = 5"),
        ([spec("s0")], [(0,)], [], "is 0"),
    ],
)
def test_what_does_not_fit_is_named(specs, shapes, constraints, text):
    with pytest.raises(ExtentError, match=text):
        check_request(specs, shapes, [S0], constraints)


def test_a_symbol_that_nothing_determines_is_a_damaged_template():
    with pytest.raises(ArtifactError, match="determines s1"):
        check_request([spec("s0")], [(5,)], [S0, S1], [])


DIMS = st.one_of(st.integers(0, 9), st.sampled_from(["s0", "s1", "2*s0", "s0 + s1", "s1//2"]))
SHAPES = st.lists(st.tuples(DIMS, st.integers(0, 20)), max_size=4)


@settings(max_examples=200, deadline=None)
@given(st.lists(SHAPES, max_size=3), st.lists(EXPRESSIONS, max_size=2))
def test_any_request_is_solved_or_refused(inputs, constraints):
    specs = [spec(*(d for d, _ in axes)) for axes in inputs]
    shapes = [tuple(n for _, n in axes) for axes in inputs]
    try:
        values = check_request(specs, shapes, [S0, S1], [f"{c} >= 0" for c in constraints])
    except FusecError:
        return
    for axes in inputs:
        assert all(evaluate(dim, values) == got for dim, got in axes)


def test_parsed_expressions_compare_by_value():
    assert parse("s0+1") == parse("(s0) + 1")
