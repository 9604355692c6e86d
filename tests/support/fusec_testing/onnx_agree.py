"""Comparison of one-node models with ONNX Runtime, eagerly and exported."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from fusec_testing.onnx_node import node_model, run_exported, run_fusec, run_runtime


def agree(
    op: str,
    inputs: Sequence[Any],
    *,
    rtol: float = 2e-5,
    atol: float = 2e-6,
    export: bool = True,
    **options: Any,
) -> list[Any]:
    """Assert that fusec answers as ONNX Runtime does; return the answers.

    Args:
        op: operator name.
        inputs: arrays; None is an absent optional input.
        rtol: allowed distance relative to the value.
        atol: allowed distance relative to the greatest finite value of the output.
        export: also compare the exported program.
        options: further arguments of ``node_model``.
    """
    model = node_model(op, inputs, **options)
    wanted = run_runtime(model, inputs)
    results = [run_fusec(model, inputs)]
    if export:
        results.append(run_exported(model, inputs))
    for way, got in zip(("eager", "exported"), results, strict=False):
        assert len(got) == len(wanted)
        for index, (ours, theirs) in enumerate(zip(got, wanted, strict=True)):
            label = f"{op} {options.get('attributes')}: output {index}, {way}"
            assert ours.dtype == theirs.dtype, label
            assert ours.shape == theirs.shape, label
            if theirs.dtype.kind != "f":
                np.testing.assert_array_equal(ours, theirs, label)
                continue
            finite = theirs[np.isfinite(theirs)]
            scale = float(np.abs(finite).max(initial=0.0)) or 1.0
            np.testing.assert_allclose(ours, theirs, rtol, atol * scale, err_msg=label)
    return wanted


def floats(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Return standard normal float32 values."""
    return rng.standard_normal(shape).astype(np.float32)
