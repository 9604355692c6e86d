"""Runs conformance cases and prints what fails and both counts.

python tests/conformance/run.py --filter 'conv|pool' --kind node --program
"""

import argparse
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))
import cases
import ways


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--filter", default="", help="regular expression on the case's name")
    parser.add_argument("--kind", nargs="*", default=["node"], choices=[*cases.KINDS, "all"])
    parser.add_argument("--program", action="store_true", help="capture and run, not only eagerly")
    parser.add_argument("-q", "--quiet", action="store_true", help="counts only")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for kind in cases.KINDS if "all" in options.kind else options.kind:
        found = list(cases.cases(kind, options.filter))
        for name, way in (("eager", ways.eager), ("program", ways.program)):
            if name == "eager" or options.program:
                began = time.perf_counter()
                results = [result for case in found if (result := way(case)) is not None]
                _print(kind, name, results, options.quiet)
                print(f"  {time.perf_counter() - began:.1f} s")


def _print(kind: str, way: str, results: list[ways.Result], quiet: bool) -> None:
    failed = [result for result in results if result.reason]
    if not quiet:
        for result in failed:
            print(f"FAIL {result.name}: {' '.join(str(result.reason).split())[:300]}")
    print(f"{kind}, {way}: {len(results) - len(failed)} of {len(results)} pass")


if __name__ == "__main__":
    main()
