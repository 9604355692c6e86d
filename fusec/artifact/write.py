"""Writing a plan file."""

import os

from fusec.artifact.atomic import replacing
from fusec.artifact.body import Flaw
from fusec.artifact.check import check_plan
from fusec.artifact.layout import HEADER_BYTES, align, seal
from fusec.artifact.manifest import data_pieces, encode, weight_table
from fusec.ir.errors import VerifyError
from fusec.ir.plan import PlanData
from fusec.ir.records import Json

__all__ = ["write_plan"]


def write_plan(
    plan: PlanData,
    path: str | os.PathLike[str],
    *,
    profile: Json = None,
    explain: Json = None,
) -> None:
    """Write a plan to one file, in one step: there is the old file or the whole new one.

    Equal plans give equal files. The file may be the one that `plan` is mapped from.

    Args:
        plan: the plan.
        path: the file; conventionally ends in `.fusec`.
        profile: what was measured, as JSON data; comes back from `read_plan_file`.
        explain: the explanation, as JSON data; comes back from `read_plan_file`.

    Raises:
        ConfigError: the folder is not there, or `path` is not a regular file.
        ArtifactError: writing failed; what was at `path` is as before.
        VerifyError: the plan breaks its own rules; nothing is written.
    """
    try:
        check_plan(plan)
        manifest = encode(plan, profile=profile, explain=explain)
    except (Flaw, TypeError, ValueError) as e:
        raise VerifyError(f"{path}: this plan cannot be saved, a bug in fusec: {e}") from e
    table = weight_table(plan)
    data_bytes = max((entry.offset + entry.length for entry in table.values()), default=0)
    with replacing(path) as file:
        file.write(seal(manifest, data_bytes))
        file.write(manifest)
        start = align(HEADER_BYTES + len(manifest))
        file.write(bytes(start - HEADER_BYTES - len(manifest)))
        for piece in data_pieces(plan):
            file.write(piece)
