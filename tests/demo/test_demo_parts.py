"""The demo's parts: tasks, data, training, the ONNX hand-over, fair timing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from fusec_testing import assert_no_worse

from fusec.demo.digits import Task, load_digits, tasks
from fusec.demo.networks import ARCHITECTURES, to_onnx, train
from fusec.demo.peers import in_turn, onnxruntime_runner


def test_every_tenant_has_a_task_of_its_own() -> None:
    made = tasks(24, seed=7)
    assert len(set(made)) == 24
    assert len({task.labels for task in made if len(task.labels) == 5}) == 12
    assert made == tasks(24, seed=7)
    assert made != tasks(24, seed=8)


def test_the_digits_are_the_real_ones_and_no_test_image_is_trained_on() -> None:
    digits = load_digits(Task("all", tuple(range(10))))
    assert len(digits.train_images) + len(digits.test_images) == 1797
    seen = {image.numpy().tobytes() for image in digits.train_images}
    repeated = sum(image.numpy().tobytes() in seen for image in digits.test_images)
    assert repeated == 0
    assert float(digits.train_images.max()) == 1.0


def test_a_label_set_keeps_its_digits_and_counts_them_from_zero() -> None:
    everything = load_digits(Task("all", tuple(range(10))))
    some = load_digits(Task("some", (3, 8)))
    assert len(some.test_labels) == int(np.isin(everything.test_labels, (3, 8)).sum())
    assert set(some.train_labels.tolist()) == {0, 1}
    threes = everything.test_images[everything.test_labels == 3]
    assert torch.equal(some.test_images[some.test_labels == 0], threes)


def test_turning_by_half_a_turn_is_a_flip_of_both_axes() -> None:
    straight = load_digits(Task("all", tuple(range(10)))).test_images
    turned = load_digits(Task("turned", tuple(range(10)), 180.0)).test_images
    torch.testing.assert_close(turned, straight.flip(2, 3), atol=1e-5, rtol=0)


@pytest.mark.parametrize("architecture", ["mlp", "cnn"])
def test_training_learns_and_the_onnx_file_is_the_same_model(architecture: str) -> None:
    digits = load_digits(Task("some", (0, 1, 7)))
    model = train(ARCHITECTURES[architecture](3), digits, epochs=20)
    images = digits.test_images
    with torch.inference_mode():
        plain = model(images)
        truth = model.double()(images.double())
    right = (plain.argmax(1) == digits.test_labels).double().mean()
    assert right > 0.9
    answers = onnxruntime_runner(to_onnx(model.float(), 3))(images.numpy())
    assert_no_worse(answers, plain, truth)


def test_everybody_is_timed_in_turn() -> None:
    ticks = iter(range(0, 10**9, 10**6))
    order: list[str] = []
    ways = {"a": lambda: order.append("a"), "b": lambda: order.append("b")}
    timings = in_turn(ways, requests=2, budget_ns=0, clock=lambda: next(ticks))
    assert order == ["a", "b"] * 6
    assert [(t.name, t.p50_us, t.rounds) for t in timings] == [("a", 500, 5), ("b", 500, 5)]
