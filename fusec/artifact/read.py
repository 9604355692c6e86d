"""Reading a plan file: checked in full before anything is believed, weights mapped in place."""

import mmap
import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from fusec.artifact.body import Flaw
from fusec.artifact.check import check_plan
from fusec.artifact.layout import FORMAT, HEADER_BYTES, MAGIC, Header, align
from fusec.artifact.manifest import Entry, Manifest, decode, parse
from fusec.artifact.sums import SECTION_BYTES, differing
from fusec.ir.device import DeviceCode
from fusec.ir.errors import ArtifactError
from fusec.ir.frozen import dataclass
from fusec.ir.plan import Blob, PlanData, blob_hash
from fusec.ir.records import Json

__all__ = ["PlanFile", "read_plan", "read_plan_file"]

_PARALLEL_BYTES = 1 << 23
"""From here on checksums are worth a few threads."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PlanFile:
    """All that a plan file holds."""

    plan: PlanData
    profile: Json
    explain: Json
    device: tuple[DeviceCode, ...] = ()
    """Code for graphics cards."""


def read_plan(path: str | os.PathLike[str], *, verify: bool = True) -> PlanData:
    """Read a plan from a file; its weights are read-only views of the mapped file.

    Args:
        path: a file that `write_plan` wrote. It may be replaced while the plan is in use, but not
            changed in place.
        verify: check the weights' bytes against their checksums, which reads all of the file
            once, at 7 GB/s per core. Without it a damaged weight gives wrong answers.

    Raises:
        ArtifactError: the file is missing, damaged, truncated, foreign or of another version.
    """
    return read_plan_file(path, verify=verify).plan


def read_plan_file(path: str | os.PathLike[str], *, verify: bool = True) -> PlanFile:
    """Read a plan with the profile and the explanation that are stored beside it.

    Args:
        path: as for `read_plan`.
        verify: as for `read_plan`.

    Raises:
        ArtifactError: as for `read_plan`.
    """
    view = _map(path)
    try:
        header = _check_header(view)
        manifest = decode(parse(bytes(view[HEADER_BYTES : HEADER_BYTES + header.manifest_bytes])))
        data = view[header.data_start :]
        blobs, end = _blobs(manifest.weights, data)
        device, end = _device(manifest.device, data, end, verify)
        if end != len(data):
            raise ArtifactError(f"{len(data) - end} bytes belong to no weight")
        plan = _plan(manifest, blobs)
        check_plan(plan)
        if verify:
            _check_bytes(data, manifest, blobs)
    except (ArtifactError, Flaw) as e:
        # A file does not decide how long a message is.
        raise ArtifactError(f"{path}: {str(e)[:500]}") from e
    return PlanFile(plan=plan, profile=manifest.profile, explain=manifest.explain, device=device)


def _map(path: str | os.PathLike[str]) -> memoryview:
    """Map a regular file read-only; the views keep the mapping alive."""
    try:
        # A named pipe would block in open.
        if not stat.S_ISREG(Path(path).stat().st_mode):
            raise ArtifactError(f"{path}: it is not a regular file")
        with open(path, "rb") as file:
            if os.fstat(file.fileno()).st_size == 0:
                raise ArtifactError(f"{path}: the file is empty")
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        with suppress(AttributeError, OSError):  # a kernel without huge pages
            mapped.madvise(mmap.MADV_HUGEPAGE)
        return memoryview(mapped)
    except OSError as e:
        raise ArtifactError(f"{path}: {e.strerror or e}") from e
    except ValueError as e:
        # A path with a zero byte, or a file that shrank between the two calls.
        raise ArtifactError(f"{str(path)!r}: {e}") from e


def _check_header(view: memoryview) -> Header:
    start = bytes(view[: len(MAGIC)])
    if start != MAGIC[: len(start)]:
        raise ArtifactError("this is not a plan file")
    if len(view) < HEADER_BYTES:
        raise ArtifactError(f"the file is truncated: {len(view)} bytes")
    header = Header.unpack(bytes(view[:HEADER_BYTES]))
    if header.version != FORMAT:
        raise ArtifactError(
            f"format version {header.version}, this fusec reads {FORMAT}; compile the plan again "
            "or use the fusec that wrote it"
        )
    if header.file_bytes != len(view):
        kind = "truncated" if header.file_bytes > len(view) else "longer than written"
        raise ArtifactError(
            f"the file is {kind}: {len(view)} bytes, its header says {header.file_bytes}"
        )
    if header.data_start > len(view):
        raise ArtifactError("the header is damaged: the manifest is longer than the file")
    if not header.seals(view[HEADER_BYTES : HEADER_BYTES + header.manifest_bytes]):
        raise ArtifactError("the manifest is damaged: its checksum differs")
    return header


def _blobs(table: Mapping[str, Entry], data: memoryview) -> tuple[dict[str, Blob], int]:
    """Give each weight its part of the mapping, and where the last one ends.

    They lie one after another, without gaps.
    """
    blobs: dict[str, Blob] = {}
    end = 0
    for key, entry in table.items():
        if entry.offset != align(end) or entry.length < 0:
            raise ArtifactError(f"weight {key}: it does not lie where the one before it ends")
        end = entry.offset + entry.length
        if end > len(data):
            raise ArtifactError(f"weight {key}: ends at byte {end} of {len(data)}")
        blobs[key] = Blob(entry.spec, data[entry.offset : end], entry.layout)
    return blobs, end


def _device(
    section: Json, data: memoryview, end: int, verify: bool
) -> tuple[tuple[DeviceCode, ...], int]:
    """Give the device code, and where it ends."""
    if section is None:
        return (), end
    from fusec.artifact.device import check_device, decode_device

    try:
        device, end = decode_device(section, data, end)
        check_device(device, verify=verify)
    except RecursionError:
        raise ArtifactError("device records are nested too deep") from None
    return device, end


def _plan(manifest: Manifest, blobs: Mapping[str, Blob]) -> PlanData:
    """Put a plan together; `check_plan` then finds what is not of the declared type."""
    return PlanData(
        templates=manifest.templates,  # type: ignore[arg-type]
        forms=manifest.forms,  # type: ignore[arg-type]
        structures=manifest.structures,  # type: ignore[arg-type]
        members=manifest.members,  # type: ignore[arg-type]
        weights=blobs,
        executor=manifest.executor,  # type: ignore[arg-type]
        threads=manifest.threads,  # type: ignore[arg-type]
        weight_storage=manifest.weight_storage,  # type: ignore[arg-type]
    )


def _check_bytes(data: memoryview, manifest: Manifest, blobs: Mapping[str, Blob]) -> None:
    """Compare the bytes with their checksums; name the weights that are not what they were."""
    sums = manifest.sums
    if len(sums) != -(-len(data) // SECTION_BYTES):
        raise ArtifactError(f"{len(sums)} checksums are not one for each section of its weights")
    threads = min(8, os.cpu_count() or 1) if len(data) >= _PARALLEL_BYTES else 1
    found = set(differing(data, sums, threads))
    if not found:
        return
    suspects = {key: blobs[key] for key, e in manifest.weights.items() if found & _sections_of(e)}
    wrong = [k for k, blob in suspects.items() if blob_hash(blob.spec, blob.data, blob.layout) != k]
    if not wrong:
        raise ArtifactError(
            f"bytes between weights, or their checksums, are damaged in {len(found)} of "
            f"{len(sums)} sections; copy or compile the plan again"
        )
    raise ArtifactError(
        f"weight {wrong[0]} is damaged, {len(wrong)} of {len(blobs)} in all; "
        "copy or compile the plan again"
    )


def _sections_of(entry: Entry) -> set[int]:
    first, end = entry.offset // SECTION_BYTES, -(-(entry.offset + entry.length) // SECTION_BYTES)
    return set(range(first, end))
