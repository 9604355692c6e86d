"""Lanes with multiprocessors of their own: all or none, refused clearly where that cannot be."""

from __future__ import annotations

import numpy as np
import pytest
from fusec_testing.grouped import interpreter

import fusec
from fusec.ir.errors import KernelError, UnsupportedError

interpreter()

from fusec_testing.card import ComputingCard  # noqa: E402
from fusec_testing.card_runs import head, on_card  # noqa: E402

X = np.ones((2, 24), np.float32)
PLAN = fusec.compile({"a": head(0), "b": head(1)}, examples={"*": X[:1]})


def test_each_lane_has_its_share() -> None:
    fake = ComputingCard(multiprocessors=20)
    fake.has_green_contexts()
    world = on_card(PLAN, fake=fake, lanes=2, green=True)
    for lane in range(2):
        prepared, inputs = world.prepare({"a": X, "b": X})
        answers = prepared.start(inputs, lane=lane).answers()
        np.testing.assert_allclose(answers[0][0], PLAN.run({"a": X})["a"]["output"], atol=2e-5)
    assert len(fake.green_streams) == 2
    assert fake.kinds().count("green context") == 2
    world.close()


def test_a_driver_that_has_none_is_told() -> None:
    world = on_card(PLAN, fake=ComputingCard(), green=True)
    with pytest.raises(UnsupportedError, match=r"no cuDeviceGetDevResource.*leave green out"):
        world.run({"a": X})
    world.close()


def test_a_card_that_is_too_small_is_told() -> None:
    fake = ComputingCard(multiprocessors=15)
    fake.has_green_contexts()
    world = on_card(PLAN, fake=fake, lanes=2, green=True)
    with pytest.raises(UnsupportedError, match=r"2 lanes cannot.*the card has 15, a share has 8"):
        world.run({"a": X})
    world.close()


def test_all_or_none() -> None:
    fake = ComputingCard(multiprocessors=132)
    fake.has_green_contexts()
    fake.green_left = 2
    world = on_card(PLAN, fake=fake, lanes=3, green=True)
    with pytest.raises(KernelError, match="cuGreenCtxCreate"):
        world.run({"a": X})
    assert fake.kinds() == []
    assert fake.streams == {}
    world.close()
