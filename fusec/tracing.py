"""A plan's call that is watched: what ran when and where, as a file for a viewer."""

import json
import os
from collections.abc import Sequence
from typing import Any

from fusec.answers import FAULTS, failed, named
from fusec.artifact.atomic import replacing
from fusec.ir.errors import KernelError
from fusec.runtime.native import ThroughNative
from fusec.runtime.request import Request
from fusec.runtime.trace import chrome_trace

__all__ = ["run_traced"]


def run_traced(
    runner: ThroughNative, requests: Sequence[Request], path: str | os.PathLike[str]
) -> dict[str, dict[str, Any]]:
    """Run requests and write a Chrome trace, whole or not at all.

    Args:
        runner: of native code.
        requests: checked.
        path: of the file.

    Raises:
        ConfigError: there is no such folder, or `path` is not a regular file; nothing ran.
        ArtifactError: writing failed. KernelError: running failed.
    """
    with replacing(path) as file:
        try:
            traced = runner.trace(requests)
        except (*FAULTS, KernelError) as e:
            raise failed([r.target.name for r in requests], e) from e
        file.write(json.dumps(chrome_trace(traced.events, traced.stage_names)).encode())
    return named(requests, traced.answers)
