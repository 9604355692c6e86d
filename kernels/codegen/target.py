"""The processor that kernels are compiled for: this one, or a lesser one for tests.

    FUSEC_CPU_NAME=haswell                  pretend to be another processor
    FUSEC_CPU_FEATURES=-avx512f,-avx2       switch features on and off

Both change what is cached, never what is computed: every lane gives the same bits on all of them.
"""

import os
from dataclasses import dataclass
from typing import Any

import llvmlite.binding as llvm

__all__ = ["Processor", "processor", "target_machine"]


@dataclass(frozen=True, slots=True)
class Processor:
    """What LLVM has to know."""

    triple: str
    name: str
    features: str


def processor() -> Processor:
    """Read this processor and what the environment says about it."""
    named = os.environ.get("FUSEC_CPU_NAME", "")
    features = {} if named else dict(llvm.get_host_cpu_features())
    asked = [f for f in os.environ.get("FUSEC_CPU_FEATURES", "").split(",") if f]
    for feature in asked:
        features.pop(feature.lstrip("+-"), None)
    found = [f"{'+' if on else '-'}{name}" for name, on in sorted(features.items())]
    return Processor(
        triple=llvm.get_process_triple(),
        name=named or llvm.get_host_cpu_name(),
        # LLVM takes them in turn, and what is switched off takes what builds on it along.
        features=",".join([*found, *asked]),
    )


def target_machine(cpu: Processor) -> Any:
    """Give the compiler for a processor."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm.Target.from_triple(cpu.triple).create_target_machine(
        cpu=cpu.name, features=cpu.features, opt=3, reloc="pic", codemodel="small"
    )
