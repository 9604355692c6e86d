"""Merged programs as files: .pt2 for torch alone, ONNX for ONNX Runtime."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fusec_testing import assert_no_worse
from fusec_testing.merge_models import Encoder, Tagger, cnn, mlp, tokens
from fusec_testing.merged import Merged
from torch import nn

from fusec.exporters.onnx import export_onnx
from fusec.exporters.pt2 import NAMES_FILE, export_pt2
from fusec.ir.errors import UnsupportedError
from fusec.ir.template import Symbol

onnxruntime = pytest.importorskip("onnxruntime")


def sessions(path: Path) -> Any:
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def run_onnx(merged: Merged, path: Path, inputs: list[list[torch.Tensor]]) -> dict[str, Any]:
    session = sessions(path)
    program = merged.program
    assert tuple(i.name for i in session.get_inputs()) == program.input_names
    assert tuple(o.name for o in session.get_outputs()) == program.output_names
    fed = [x.numpy() for x in merged.feed(inputs)]
    out = session.run(None, dict(zip(program.input_names, fed, strict=True)))
    return dict(zip(program.output_names, out, strict=True))


def check_onnx(merged: Merged, path: Path, inputs: list[list[torch.Tensor]]) -> None:
    """ONNX Runtime is no further from float64 than the rule of the tests allows."""
    out = run_onnx(merged, path, inputs)
    for m, module in enumerate(merged.modules):
        with torch.no_grad():
            plain = module(*inputs[m]).numpy()
            wide = [x.double() if x.is_floating_point() else x for x in inputs[m]]
            truth = module.double()(*wide).numpy()
            module.float()
        own = merged.of(out, m)
        # Other kernels round otherwise; a few units more are no wrong answer.
        slack = np.abs(own - truth).max() <= 8 * np.finfo(np.float32).eps * np.abs(truth).max()
        if not slack:
            assert_no_worse(own, plain, truth, where=f"member {m}")


@pytest.mark.parametrize("io", ["stacked", "named"])
def test_onnx_of_networks_with_different_ends(tmp_path: Path, io: Any) -> None:
    merged = Merged([mlp(4 + i % 2) for i in range(3)], torch.randn(2, 8), io=io)
    export_onnx(merged.program, tmp_path / "m.onnx")
    check_onnx(merged, tmp_path / "m.onnx", [[torch.randn(2, 8)] for _ in range(3)])


@pytest.mark.parametrize(
    ("make", "example"), [(cnn, torch.randn(1, 3, 12, 12)), (Encoder, tokens(1, 7))]
)
def test_onnx_of_whole_models(tmp_path: Path, make: Any, example: torch.Tensor) -> None:
    merged = Merged([make() for _ in range(3)], example)
    export_onnx(merged.program, tmp_path / "m.onnx")
    draw = torch.randn_like if example.is_floating_point() else lambda x: tokens(*x.shape)
    check_onnx(merged, tmp_path / "m.onnx", [[draw(example)] for _ in range(3)])


@pytest.mark.parametrize(
    ("kind", "members"), [(nn.LSTM, 2), (nn.GRU, 2), (nn.RNN, 2), (nn.LSTM, 8), (nn.GRU, 8)]
)
def test_onnx_of_recurrent_layers(tmp_path: Path, kind: Any, members: int) -> None:
    """Two members run in the library's loop each, eight in one grouped loop."""
    merged = Merged([Tagger(kind) for _ in range(members)], tokens(1, 5))
    assert ("recurrent" in merged.report.counts) == (members == 8)
    export_onnx(merged.program, tmp_path / "m.onnx")
    check_onnx(merged, tmp_path / "m.onnx", [[tokens(1, 5)] for _ in range(members)])


def test_onnx_keeps_axes_that_vary(tmp_path: Path) -> None:
    dynamic = {0: {0: Symbol("b", 2, 16)}}
    merged = Merged([mlp() for _ in range(2)], torch.randn(3, 8), dynamic=dynamic)
    export_onnx(merged.program, tmp_path / "m.onnx")
    assert sessions(tmp_path / "m.onnx").get_inputs()[0].shape == [2, "s0", 8]
    for rows in (2, 5):
        check_onnx(merged, tmp_path / "m.onnx", [[torch.randn(rows, 8)] for _ in range(2)])


def test_onnx_names_the_operator_that_it_does_not_have(tmp_path: Path) -> None:
    class Odd(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.kthvalue(x, 1)[0]

    merged = Merged([Odd(), Odd()], torch.randn(2))
    with pytest.raises(UnsupportedError, match=r"aten\.kthvalue"):
        export_onnx(merged.program, tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())


LOADER = """
import json, sys, torch
extra = {"fusec.json": ""}
program = torch.export.load(sys.argv[1], extra_files=extra)
x = torch.load(sys.argv[2])
out = program.module()(*x)
torch.save(out, sys.argv[3])
assert not [name for name in sys.modules if name.split(".")[0] == "fusec"]
print(extra["fusec.json"])
"""


def test_pt2_runs_with_torch_alone(tmp_path: Path) -> None:
    merged = Merged([cnn() for _ in range(2)], torch.randn(1, 3, 12, 12), io="named")
    export_pt2(merged.program, tmp_path / "m.pt2")
    inputs = [[torch.randn(1, 3, 12, 12)] for _ in range(2)]
    torch.save(merged.feed(inputs), tmp_path / "x.pt")
    files = [str(tmp_path / name) for name in ("m.pt2", "x.pt", "y.pt")]
    run = subprocess.run(
        [sys.executable, "-c", LOADER, *files], capture_output=True, text=True, cwd=tmp_path
    )
    assert run.returncode == 0, run.stderr
    names = json.loads(run.stdout)
    assert names == {
        "inputs": ["m0.input_0", "m1.input_0"],
        "outputs": ["m0.output_0", "m1.output_0"],
    }
    assert NAMES_FILE == "fusec.json"
    out = torch.load(tmp_path / "y.pt")
    torch.testing.assert_close(tuple(out), tuple(merged.run(inputs).values()))


def test_pt2_keeps_axes_that_vary_and_custom_operators(tmp_path: Path) -> None:
    dynamic = {0: {0: Symbol("b", 2, 16), 1: Symbol("t", 2, 16)}}
    merged = Merged([Tagger() for _ in range(2)], tokens(3, 5), dynamic=dynamic)
    export_pt2(merged.program, tmp_path / "m.pt2")
    loaded = torch.export.load(tmp_path / "m.pt2").module()
    for shape in ((3, 5), (2, 9)):
        inputs = [[tokens(*shape)] for _ in range(2)]
        with torch.no_grad():
            out = loaded(*merged.feed(inputs))
        torch.testing.assert_close(out[0], merged.run(inputs)["output_0"])
