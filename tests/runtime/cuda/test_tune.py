"""Choosing configurations by measured times; the card is a function that says how long."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusec.ir.errors import ConfigError
from fusec.kernels.cache import store_object
from fusec.kernels.configs import configs_of
from fusec.kernels.triton_table import KERNELS, Special
from fusec.runtime.cuda.choose import Shape
from fusec.runtime.cuda.tune import Choices, fastest, tuned

TIMES = st.lists(st.lists(st.integers(1, 10**6), min_size=1, max_size=5), min_size=1, max_size=5)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FUSEC_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path


def specials(kernel: str = "gemm") -> list[Special]:
    constants: dict[str, int | str] = {"A_DTYPE": "float32", "B_DTYPE": "float32"}
    return [
        Special(kernel=KERNELS[kernel], config=config, constants=config.blocks)
        for config in configs_of(kernel, 90, constants)
    ]


def shape(rows: int) -> Shape:
    return Shape(np.array([[rows, 384, 1], [rows, 384, 1]]))


class Card:
    """Takes as long as it is told to, by the rows of a tile; counts launches."""

    def __init__(self, **times_ns: int) -> None:
        self.times_ns, self.launches = times_ns, Counter[int]()

    def measure(self, special: Special) -> int:
        rows = dict(special.config.blocks)["BLOCK_M"]
        self.launches[rows] += 1
        # The first launch of each loads its code.
        return 10**9 if self.launches[rows] == 1 else self.times_ns.get(f"m{rows}", 500)


@given(TIMES)
def test_the_choice_is_never_slower_than_the_preferred_one(times_ns: list[list[int]]) -> None:
    middles = [sorted(own)[(len(own) - 1) // 2] for own in times_ns]
    chosen = fastest(times_ns)
    assert middles[chosen] <= middles[0]
    assert middles[chosen] <= min(middles) * 1.03


def test_noise_does_not_beat_the_preferred_one() -> None:
    assert fastest([[100, 101, 99], [99, 98, 400]]) == 0
    assert fastest([[100, 101, 99], [90, 91, 400]]) == 1


@pytest.mark.parametrize("times_ns", [[], [[]], [[1], []]])
def test_what_was_not_measured_is_not_chosen(times_ns: list[list[int]]) -> None:
    with pytest.raises(ConfigError, match="at least one time"):
        fastest(times_ns)


def test_each_is_launched_as_often_and_the_first_time_does_not_count() -> None:
    card = Card(m16=100)
    assert tuned(specials(), card.measure, rounds=3) == 1
    assert set(card.launches.values()) == {4}


def test_one_configuration_is_not_measured() -> None:
    card = Card()
    assert tuned(specials()[:1], card.measure) == 0
    assert not card.launches


def test_choices_last_for_the_card_and_the_compiler() -> None:
    card = Card(m32=100)
    assert Choices("H100", "triton 3.9").of(specials(), shape(100), card.measure) == 2
    again = Card(m16=1)
    choices = Choices("H100", "triton 3.9")
    assert choices.of(specials(), shape(100), again.measure) == 2
    assert choices.of(specials(), shape(120), again.measure) == 2
    assert not again.launches
    assert choices.of(specials(), shape(1000), again.measure) == 1
    for other in (Choices("A100", "triton 3.9"), Choices("H100", "triton 3.10")):
        assert other.of(specials(), shape(100), Card(m16=1).measure) == 1


def test_other_configurations_are_another_choice() -> None:
    Choices("H100", "t").of(specials(), shape(9), Card(m32=1).measure)
    assert Choices("H100", "t").of(specials()[:2], shape(9), Card(m16=1).measure) == 1


@pytest.mark.parametrize("data", [b"?", b"[]", b'{"a": "b", "c": true, "d": -1}'])
def test_what_another_wrote_is_not_taken(data: bytes) -> None:
    first = Choices("H100", "t")
    store_object("tuned", first._key, data)
    choices = Choices("H100", "t")
    assert choices._found == {}
    assert choices.of(specials(), shape(9), Card(m16=1).measure) == 1
