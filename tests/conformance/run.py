"""Runs conformance cases and prints what fails: python tests/conformance/run.py --filter Conv."""

import argparse
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))
import cases

from fusec import onnx_backend


def run_node_tests(pattern: str = "") -> dict[str, str | None]:
    """Run the node tests whose names match; return the reason of failure (None: passed) by name."""
    results = {}
    for name, model, data, rtol, atol in cases.node_cases(pattern):
        try:
            rep = onnx_backend.prepare(model)
            found = (cases.difference(rep.run(i), o, rtol, atol) for i, o in data)
            results[name] = next((text for text in found if text), None)
        except Exception as error:
            results[name] = f"{type(error).__name__}: {error}"
    return results


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--filter", default="")
    parser.add_argument("-q", action="store_true", help="counts only")
    options = parser.parse_args()
    torch.set_num_threads(1)
    outcome = run_node_tests(options.filter)
    failed = {name: reason for name, reason in outcome.items() if reason}
    if not options.q:
        for name, reason in failed.items():
            print(f"FAIL {name}: {' '.join(reason.split())[:300]}")
    print(f"{len(outcome) - len(failed)} of {len(outcome)} pass")
