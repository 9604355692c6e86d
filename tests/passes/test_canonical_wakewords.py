"""The product test: every wake-word head, whoever exported it, is one graph."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from fusec_testing.canonical import checked, operators

from fusec.importers.onnx.load import load_model
from fusec.importers.onnx.module import OnnxModule
from fusec.passes.pack import pack

HEAD = [
    "reshape", "linear", "layer_norm", "relu", "linear", "layer_norm", "relu", "linear", "sigmoid",
]  # fmt: skip


@pytest.fixture(scope="module")
def structures(shared: Path) -> dict[str, OnnxModule]:
    """Return one module per raw structure among the files."""
    found: dict[str, OnnxModule] = {}
    for path in sorted((shared / "models" / "wakewords").glob("*.onnx")):
        module = OnnxModule(load_model(path))
        found.setdefault(module.key, module)
    return found


def test_all_heads_are_one_template(structures):
    assert len(structures) > 3
    keys = set()
    for module in structures.values():
        x, *others = (torch.randn(1, 16, 96) * 3 for _ in range(64))
        program, _ = checked(module, x, others=[(other,) for other in others])
        assert operators(program) == HEAD
        assert not program.guards
        keys.add(pack(program)[0].key)
    assert len(keys) == 1
