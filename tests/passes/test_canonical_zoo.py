"""Whole small models: equal before and after, and equal to what exporters make of them."""

from __future__ import annotations

import io
import warnings

import pytest
import torch
from fusec_testing.canonical import checked, operators, run
from fusec_testing.zoo import ZOO

from fusec.importers.onnx.load import load_model
from fusec.importers.onnx.module import OnnxModule
from fusec.importers.torch_capture import capture, program_of
from fusec.ir.template import Symbol
from fusec.passes.canonicalise import canonicalise
from fusec.passes.pack import pack
from fusec.passes.text import graph_text

GOLDEN = ("cnn", "encoder_by_hand", "decoder")
VARYING = {
    "encoder_by_hand": (1,), "tagger": (1,), "decoder": (1,), "convnext": (2, 3), "unet": (2, 3),
}  # fmt: skip
EXPORTED = ("cnn", "unet", "encoder", "tagger", "convnext")


@pytest.mark.parametrize("name", ZOO)
def test_equal_before_and_after(name):
    module, inputs = ZOO[name]()
    others = [tuple(_like(x) for x in inputs) for _ in range(4)]
    canonical, _ = checked(module, *inputs, others=others)
    again, reports = canonicalise(canonical, check=True)
    assert graph_text(again) == graph_text(canonical), "canonical form is a fixed point"
    assert not any(r.changed for r in reports if r.name != "spell_arguments")


def _like(x: torch.Tensor) -> torch.Tensor:
    return torch.randn_like(x) if x.dtype.is_floating_point else x[:, torch.randperm(x.shape[1])]


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_text(name, golden):
    module, inputs = ZOO[name]()
    golden.check(graph_text(checked(module, *inputs)[0]))


@pytest.mark.parametrize("name", VARYING)
def test_with_extents_that_vary(name):
    module, inputs = ZOO[name]()
    axes = VARYING[name]
    (x,) = inputs
    larger = x.repeat([2 if axis in axes else 1 for axis in range(x.dim())])
    symbols = {axis: Symbol(f"s{i}", 4, 64) for i, axis in enumerate(axes)}
    program, _ = checked(module, x, dynamic={0: symbols}, others=[(larger,)])
    fixed, _ = checked(module, x)
    assert len(operators(program)) >= len(operators(fixed))


def test_an_encoder_by_hand_is_the_encoder():
    keys = set()
    for name in ("encoder", "encoder_by_hand"):
        module, inputs = ZOO[name]()
        for symbols in ({}, {0: {1: Symbol("s0", 2, 64)}}):
            keys.add((bool(symbols), pack(checked(module, *inputs, dynamic=symbols)[0])[0].key))
    assert len(keys) == 2


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", EXPORTED)
def test_onnx_twins_share_the_template(name):
    module, inputs = ZOO[name]()
    module.eval()
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(module, inputs, file, opset_version=17, dynamo=False)
    twin = OnnxModule(load_model(file.getvalue()))
    texts = [checked(m, *inputs)[0] for m in (module, twin)]
    ours, theirs = (pack(p)[0] for p in texts)
    assert [r.op for r in ours.body.rows] == [r.op for r in theirs.body.rows]
    assert ours.key == theirs.key


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("name", ("cnn", "encoder", "decoder"))
def test_core_aten_twins_share_the_template(name):
    """Torch's own decompositions take norms, pooling and attention apart."""
    module, inputs = ZOO[name]()
    module.eval()
    taken_apart = torch.export.export(module, inputs, strict=False).run_decompositions()
    whole, _ = checked(module, *inputs)
    twin, _ = canonicalise(
        program_of(
            capture(taken_apart.module(), inputs),
            input_axes=whole.input_axes,
            output_axes=whole.output_axes,
            rows=whole.rows,
        ),
        check=True,
    )
    (ours,), (theirs,) = run(whole, inputs), run(twin, inputs)
    torch.testing.assert_close(theirs, ours)
    assert pack(twin)[0].body == pack(whole)[0].body
