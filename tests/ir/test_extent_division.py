"""Exact division of extents: what divides for every value, and nothing else."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fusec.ir.extents import Extent, exactly, of, value

TEXTS = (
    "s0", "s1", "s0 + 1", "2*s0 + s1", "3*s0*s1 - s1", "(s0 - 1)//8 + 1", "4", "-3", "0", "s1*s1",
)  # fmt: skip


@given(st.lists(st.sampled_from(TEXTS), min_size=1, max_size=3), st.sampled_from(TEXTS))
def test_a_product_divides_by_its_factors(factors: list[str], last: str) -> None:
    divisor, other = of(last), of(1)
    for factor in factors:
        other = other * of(factor)
    if divisor != 0:
        assert exactly(other * divisor, divisor) == other


@given(st.sampled_from(TEXTS), st.sampled_from(TEXTS), st.sampled_from(TEXTS), st.integers(-2, 2))
def test_a_quotient_times_the_divisor_is_the_dividend(a: str, b: str, c: str, more: int) -> None:
    dividend: Extent = of(a) * of(b) + more
    divisor = of(c)
    quotient = exactly(dividend, divisor)
    if quotient is not None:
        assert quotient * divisor == dividend
        values = {"s0": 19, "s1": 7}
        assert value(quotient, values) * value(divisor, values) == value(dividend, values)


def test_what_leaves_something_over_does_not_divide() -> None:
    assert exactly(of("s0*s1 + 1"), of("s0")) is None
    assert exactly(of("s0"), of("s0 + 1")) is None
    assert exactly(of("s0 + 1"), of("2*s0 + 2")) is None
    assert exactly(of("s0"), of("s0*s1")) is None
    assert exactly(of("s0"), 0) is None
    assert exactly(4, of("s0")) is None
