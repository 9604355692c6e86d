"""Reports are wrapped for terminals, at words, below what they are about."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusec.cli.output import wrapped

REPORT = """Group 0: 1 model, template ba98670f62a1, 1.13 MB of weights in panels of floats, packed

  computes:  sym_size.int -> sym.add -> arange.start_step -> sym.sub -> sym.mul -> sym.max -> relu
             2 programs more for other extents, of which none is ever run by anyone, so it goes
  gemm                1 x 17     132.1    280.6      9.98     4.89  23.6%  convolution,relu,tanh"""


def test_what_goes_on_is_below_its_beginning() -> None:
    lines = wrapped(REPORT, 80).split("\n")
    assert max(map(len, lines)) <= 80
    assert [re.match(" *", line).end() for line in lines] == [0, 2, 0, 2, 13, 13, 15, 2, 4]  # type: ignore[union-attr]


@given(st.text("ab: \n-", max_size=200), st.integers(20, 120))
def test_no_word_is_lost_or_broken(text: str, columns: int) -> None:
    shown = wrapped(text, columns)
    assert shown.split() == text.split()
    assert all(len(x) <= columns or len(x.split()) == 1 for x in shown.split("\n"))


@pytest.mark.parametrize("columns", [100, 200])
def test_lines_that_fit_stay(columns: int) -> None:
    assert wrapped(REPORT, columns) == REPORT
