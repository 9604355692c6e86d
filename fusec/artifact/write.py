"""Writing a plan file."""

import os
from collections.abc import Sequence
from typing import BinaryIO

from fusec.artifact.atomic import BLOCK_BYTES, replacing
from fusec.artifact.body import Flaw
from fusec.artifact.check import check_plan
from fusec.artifact.layout import HEADER_BYTES, align, seal
from fusec.artifact.manifest import data_pieces, encode
from fusec.ir.device import DeviceCode
from fusec.ir.errors import VerifyError
from fusec.ir.plan import PlanData
from fusec.ir.records import Json

__all__ = ["write_piece", "write_plan"]


def write_plan(
    plan: PlanData,
    path: str | os.PathLike[str],
    *,
    profile: Json = None,
    explain: Json = None,
    device: Sequence[DeviceCode] = (),
) -> None:
    """Write a plan to one file, in one step: there is the old file or the whole new one.

    Equal plans give equal files. The file may be the one that `plan` is mapped from.

    Args:
        plan: the plan.
        path: the file; conventionally ends in `.fusec`.
        profile: what was measured, as JSON data; comes back from `read_plan_file`.
        explain: the explanation, as JSON data; comes back from `read_plan_file`.
        device: code for graphics cards; comes back from `read_plan_file`.

    Raises:
        ConfigError: the folder is not there, or `path` is not a regular file.
        ArtifactError: writing failed; what was at `path` is as before.
        VerifyError: the plan breaks its own rules; nothing is written.
    """
    try:
        check_plan(plan)
        if device:
            from fusec.artifact.device import check_device

            check_device(device)
        manifest = encode(plan, profile=profile, explain=explain, device=device)
    except (Flaw, TypeError, ValueError) as e:
        raise VerifyError(f"{path}: this plan cannot be saved, a bug in fusec: {e}") from e
    data_bytes = sum(memoryview(piece).nbytes for piece in data_pieces(plan, device))
    with replacing(path) as file:
        start = align(HEADER_BYTES + len(manifest))
        head = seal(manifest, data_bytes), manifest, bytes(start - HEADER_BYTES - len(manifest))
        for piece in (*head, *data_pieces(plan, device)):
            write_piece(file, memoryview(piece))


def write_piece(file: BinaryIO, piece: memoryview) -> None:
    """Write a piece so that the file's buffer is emptied where a block ends."""
    while len(piece):
        room = BLOCK_BYTES - file.tell() % BLOCK_BYTES
        file.write(piece[:room])
        piece = piece[room:]
