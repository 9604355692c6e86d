"""Code that names a kernel instead of being one: `ComputingCard` runs what it names."""

from collections.abc import Sequence

from fusec_testing.cubins import made_cubin

from fusec.ir.device import DeviceCode, DeviceKernel, DroppedKernel, code_hash
from fusec.kernels.cuda.compile import Made
from fusec.kernels.cuda.job import Job

__all__ = ["JOBS", "build", "device_code"]

_PARAMETERS = (8, 8, 8, 8)

JOBS: dict[str, Job] = {}
"""What was "compiled", by the symbol in its code."""


def build(jobs: Sequence[Job]) -> list[Made | DroppedKernel]:
    """Make code that names a kernel: `ComputingCard` runs it."""
    made: list[Made | DroppedKernel] = []
    for job in jobs:
        symbol = f"{job.function}_{abs(hash(job.to_json())):x}"
        JOBS[symbol] = job
        code = made_cubin(symbol, arch=job.arch, parameters=_PARAMETERS, threads=job.warps * 32)
        kernel = DeviceKernel(
            name=job.name, constants=job.constants, symbol=symbol, code=code_hash(code),
            parameters=job.parameters, hidden=0, warps=job.warps, shared_bytes=0, registers=32,
            stack_bytes=0, spill_bytes=0,
        )  # fmt: skip
        made.append(Made(kernel=kernel, code=code))
    return made


def device_code(jobs: Sequence[Job], target: str) -> DeviceCode:
    """Give a plan's code as `build` makes it."""
    made = [one for one in build(jobs) if isinstance(one, Made)]
    return DeviceCode(
        target=target,
        compiler="a test",
        kernels=tuple(one.kernel for one in made),
        dropped=(),
        codes={one.kernel.code: one.code for one in made},
    )
