"""What a runtime costs while nobody asks: processor time of a process with 122 models open.

The models are asked once, so that all that starts with the first request has started.

    python bench/serve_idle.py --seconds 30
"""

from __future__ import annotations

import time

import cpu_wakewords
import numpy as np
import torch
from figures import figure, keep, parser

import fusec

BENCH = "serve_idle"
CASE = "idle, 122 models open"


def main() -> None:
    """Wait, print a table, append rows."""
    options = parser(__doc__, seconds=30.0, cases=(CASE,)).parse_args()
    torch.set_num_threads(1)
    _, sources, _ = cpu_wakewords.heads(4 if options.smoke else cpu_wakewords.HEADS)
    example = torch.zeros(1, 16, 96)
    plan = fusec.compile(sources, examples={"*": example}, threads=options.threads, executor="cpu")
    seconds = 0.3 if options.smoke else options.seconds
    with fusec.Runtime(plan) as runtime:
        for future in runtime.submit_many(
            dict.fromkeys(plan.members, np.zeros((1, 16, 96), np.float32))
        ).values():
            future.result()
        time.sleep(0.1)  # workers spin for a moment after the last answer
        before = time.process_time()
        time.sleep(seconds)
        spent = time.process_time() - before
    keep(
        [
            figure(
                BENCH,
                CASE,
                "processor time",
                [100 * spent / seconds],
                "% of a core",
                threads=options.threads,
                asked="0",
                note=f"{1e3 * spent:.2f} ms in {seconds:.0f} s",
            )
        ],
        options.out,
    )


if __name__ == "__main__":
    main()
