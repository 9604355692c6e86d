"""Signal, loss, random, image and optimiser operators, against ONNX Runtime where it has them."""

import io

import numpy as np
import pytest
import torch
from fusec_testing.onnx_node import node_model, run_exported, run_fusec, run_runtime

from fusec.ir.errors import ImportFailed


def _floats(rng, *shape):
    return rng.standard_normal(shape).astype(np.float32)


def _agree(op, inputs, *, export=True, near=1e-5, **options):
    model = node_model(op, inputs, **options)
    wanted = run_runtime(model, inputs)
    results = [run_fusec(model, inputs)]
    if export:
        results.append(run_exported(model, inputs))
    for got in results:
        assert len(got) == len(wanted)
        for ours, theirs in zip(got, wanted, strict=True):
            assert ours.dtype == theirs.dtype and ours.shape == theirs.shape
            if theirs.dtype.kind == "f":
                np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=near)
            else:
                np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("opset", [17, 20])
@pytest.mark.parametrize(
    ("parts", "length", "attributes"),
    [(1, None, {}), (1, 12, {}), (1, 7, {"onesided": 1}), (2, None, {"inverse": 1}), (2, 6, {})],
)
def test_dft(rng, opset, parts, length, attributes):
    x = _floats(rng, 2, 10, 3, parts)
    inputs = [x, None if length is None else np.array(length)]
    if opset == 17:
        attributes = attributes | {"axis": 1}
    else:
        inputs.append(np.array(1))
    weights = tuple(i for i in (1, 2) if i < len(inputs) and inputs[i] is not None)
    _agree(
        "DFT", inputs, opset=opset, weights=weights, attributes=attributes,
        export=length is None and opset == 20, near=1e-4,
    )  # fmt: skip


def test_dft_one_sided_inverse_is_numpy(rng):
    """Opset 20 added it; ONNX Runtime does not have it."""
    x = _floats(rng, 2, 5, 3, 2)
    model = node_model("DFT", [x], opset=17, attributes={"inverse": 1, "onesided": 1, "axis": 1})
    wanted = np.fft.irfft(x[..., 0] + 1j * x[..., 1], axis=1)[..., None]
    np.testing.assert_allclose(run_fusec(model, [x])[0], wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("window", [False, True])
@pytest.mark.parametrize(("parts", "onesided"), [(1, 1), (1, 0), (2, 0)])
def test_stft(rng, window, parts, onesided):
    signal = _floats(rng, 2, 61, parts)
    inputs = [signal, np.array(8)]
    inputs += [np.hanning(16).astype(np.float32)] if window else [None, np.array(16)]
    weights = (1,) if window else (1, 3)
    _agree("STFT", inputs, weights=weights, attributes={"onesided": onesided}, export=window)


@pytest.mark.parametrize("op", ["HannWindow", "HammingWindow", "BlackmanWindow"])
@pytest.mark.parametrize("periodic", [0, 1])
def test_windows(op, periodic):
    _agree(op, [np.array(9)], weights=(0,), attributes={"periodic": periodic}, export=False)


def test_mel_weight_matrix():
    inputs = [np.array(8), np.array(64), np.array(8192), np.float32(20), np.float32(4000)]
    _agree("MelWeightMatrix", inputs, weights=range(5), export=False)


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@pytest.mark.parametrize("ignore", [None, -1, 2])
@pytest.mark.parametrize("weighted", [False, True])
def test_losses(rng, reduction, ignore, weighted):
    scores, target = _floats(rng, 3, 5, 4), rng.integers(0, 5, (3, 4))
    if ignore is not None:
        target[0, 1:3] = ignore
    inputs = [scores, target] + ([rng.uniform(0.5, 2, 5).astype(np.float32)] if weighted else [])
    attributes = {"reduction": reduction} | ({} if ignore is None else {"ignore_index": ignore})
    export = reduction == "mean" and weighted and ignore == -1
    options = {"opset": 13, "attributes": attributes, "export": export}
    _agree("NegativeLogLikelihoodLoss", inputs, **options)
    _agree("SoftmaxCrossEntropyLoss", inputs, outputs=2, **options)


@pytest.mark.parametrize("opset", [7, 10, 13])
def test_dropout_does_nothing_when_not_training(rng, opset):
    _agree("Dropout", [_floats(rng, 2, 3)], opset=opset, outputs=2, export=opset == 13)


def test_dropout_that_trains():
    x = np.ones((100, 100), np.float32)
    inputs = [x, np.float32(0.25), np.array(True)]
    model = node_model("Dropout", inputs, opset=13, outputs=2, weights=(1, 2))
    for run in (run_fusec, run_exported):
        y, mask = run(model, inputs)
        assert 0.70 < mask.mean() < 0.80
        np.testing.assert_allclose(y, np.where(mask, x / 0.75, 0), rtol=1e-6)


def test_dropout_decided_by_an_input():
    x = np.ones((50, 50), np.float32)
    inputs = [x, np.float32(0.5), np.array(True)]
    from fusec.importers.onnx.load import load_model
    from fusec.importers.onnx.module import OnnxModule

    module = OnnxModule(load_model(node_model("Dropout", inputs, opset=13, weights=(1,))))
    given = torch.from_numpy(x), torch.tensor(True)
    program = torch.export.export(module, given, strict=False).module()
    assert 0.4 < float((program(*given)[0] == 0).float().mean()) < 0.6
    torch.testing.assert_close(program(given[0], torch.tensor(False))[0], given[0])


@pytest.mark.parametrize("op", ["RandomNormal", "RandomUniform", "RandomNormalLike"])
def test_random_numbers_have_the_asked_mean_and_repeat_with_a_seed(op):
    like = op.endswith("Like")
    given = {"mean": 3.0, "scale": 0.5} if "Normal" in op else {"low": 2.0, "high": 4.0}
    attributes = given | {"seed": 7.0} | ({} if like else {"shape": [200, 50]})
    inputs = [np.zeros((200, 50), np.float32)] if like else []
    model = node_model(op, inputs, opset=13, attributes=attributes)
    (first,), (second,) = run_fusec(model, inputs), run_fusec(model, inputs)
    np.testing.assert_array_equal(first, second)
    assert first.shape == (200, 50) and abs(first.mean() - 3.0) < 0.05
    assert abs(first.std() - (0.5 if "Normal" in op else 2 / 12**0.5)) < 0.05


@pytest.mark.parametrize("run", [run_fusec, run_exported])
def test_draws_follow_their_probabilities(run):
    chance = np.full((100, 100), 0.3, np.float32)
    model = node_model("Bernoulli", [chance], opset=15)
    assert abs(run(model, [chance])[0].mean() - 0.3) < 0.03
    logits = np.log(np.array([[0.1, 0.6, 0.3]], np.float32))
    model = node_model("Multinomial", [logits], opset=7, attributes={"sample_size": 5000})
    (drawn,) = run(model, [logits])
    assert drawn.dtype == np.int32
    np.testing.assert_allclose(np.bincount(drawn[0]) / 5000, [0.1, 0.6, 0.3], atol=0.04)


@pytest.mark.parametrize("case", ["plain", "no_threshold", "absent", "empty", "ties", "centre"])
def test_non_max_suppression(rng, case):
    boxes = rng.uniform(0, 1, (2, 40, 4)).astype(np.float32)
    scores = rng.uniform(0, 1, (2, 3, 40)).astype(np.float32)
    most, overlap, least = np.array(5), np.float32(0.3), np.float32(0.4)
    inputs = {
        "plain": [boxes, scores, most, overlap, least],
        "no_threshold": [boxes, scores, most, overlap],
        "absent": [boxes, scores],
        "empty": [boxes[:, :0], scores[:, :, :0], most],
        "ties": [boxes, np.round(scores, 1), np.array(50), overlap],
        "centre": [boxes, scores, most, overlap],
    }[case]
    attributes = {"center_point_box": int(case == "centre")}
    _agree("NonMaxSuppression", inputs, opset=11, attributes=attributes, export=case == "plain")


def test_image_decoder(rng):
    image = pytest.importorskip("PIL.Image")
    pixels = rng.integers(0, 256, (5, 7, 3)).astype(np.uint8)
    file = io.BytesIO()
    image.fromarray(pixels).save(file, "PNG")
    encoded = np.frombuffer(file.getvalue(), np.uint8)
    for kind, wanted in (("RGB", pixels), ("BGR", pixels[:, :, ::-1])):
        model = node_model("ImageDecoder", [encoded], opset=20, attributes={"pixel_format": kind})
        np.testing.assert_array_equal(run_fusec(model, [encoded])[0], wanted)
    with pytest.raises(ImportFailed, match="no image"):
        run_fusec(model, [encoded[:20]])


def test_momentum_and_adam_move_downhill(rng):
    x, grad = _floats(rng, 4), _floats(rng, 4)
    zero = np.zeros(4, np.float32)
    domain = "ai.onnx.preview.training"
    inputs = [np.float32(0.1), np.array(1), x, grad, zero]
    attributes = {"alpha": 0.9, "beta": 1.0, "norm_coefficient": 0.0, "mode": "standard"}
    model = node_model("Momentum", inputs, domain=domain, outputs=2, attributes=attributes)
    moved, state = run_fusec(model, inputs)
    np.testing.assert_allclose(moved, x - 0.1 * grad, rtol=1e-5)
    np.testing.assert_allclose(state, grad, rtol=1e-6)
    model = node_model("Adam", [*inputs, zero], domain=domain, outputs=3)
    moved, *_ = run_exported(model, [*inputs, zero])
    np.testing.assert_allclose(moved, x - 0.1 * np.sign(grad), rtol=1e-3, atol=1e-3)
