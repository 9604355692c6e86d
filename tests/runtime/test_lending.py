"""Lending: nobody gets what another has, and what came back is used again."""

from itertools import count

from hypothesis import given
from hypothesis import strategies as st

from fusec.runtime.lending import Lender


@given(st.lists(st.booleans(), max_size=40))
def test_nothing_is_lent_twice_and_no_more_is_made_than_was_out_at_once(takes: list[bool]) -> None:
    numbers = count()
    lender = Lender(lambda: next(numbers))
    out: list[int] = []
    most = 1
    for take in takes:
        if take:
            lent = lender.take()
            assert lent not in out
            out.append(lent)
            most = max(most, len(out))
        elif out:
            lender.give(out.pop(0))
    assert next(numbers) == most
