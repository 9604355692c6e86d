"""Device code in a plan file: an optional part of the manifest, and code after the weights.

"device": {"codes": [[hash, offset, length]],
           "targets": [[target, compiler, [DeviceKernel], [DroppedKernel]]]}

Code is laid out like weights and right behind them. What a kernel takes of a card is compared with
what its code says, so that a launch can rely on it.
"""

from collections.abc import Iterator, Mapping, Sequence

from fusec.artifact.body import Flaw, strings, tuples
from fusec.artifact.layout import align
from fusec.ir.device import DeviceCode, DeviceKernel, DroppedKernel, code_hash
from fusec.ir.errors import ArtifactError, ConfigError
from fusec.ir.records import Json, from_json, to_json
from fusec.kernels.cuda.cards import card_of, why_not
from fusec.kernels.cuda.cubin import Cubin, read_cubin

__all__ = ["check_device", "code_pieces", "decode_device", "encode_device"]

_RECORDS = {record.__name__: record for record in (DeviceKernel, DroppedKernel)}
_PARAMETER_BYTES = {"*": 8, "i1": 1, "i8": 1, "i16": 2, "i32": 4, "i64": 8, "fp32": 4, "fp64": 8}
_WARP_THREADS = 32
_MAX_HIDDEN = 16


def code_pieces(device: Sequence[DeviceCode], end: int) -> Iterator[memoryview | bytes]:
    """Give what follows the weights: code, and zeros before each.

    Args:
        device: of a plan.
        end: of the last weight.
    """
    for code in _codes(device).values():
        yield bytes(align(end) - end)
        yield code
        end = align(end) + len(code)


def encode_device(device: Sequence[DeviceCode], end: int) -> dict[str, Json]:
    """Give the part of the manifest.

    Args:
        device: of a plan.
        end: of the last weight.
    """
    table: list[Json] = []
    for key, code in _codes(device).items():
        table.append([key, align(end), len(code)])
        end = align(end) + len(code)
    targets: list[Json] = [
        [d.target, d.compiler, to_json(d.kernels), to_json(d.dropped)] for d in device
    ]
    return {"codes": table, "targets": targets}


def decode_device(data: Json, view: memoryview, end: int) -> tuple[tuple[DeviceCode, ...], int]:
    """Build what `encode_device` gave; `check_device` then finds what is not of the declared type.

    Args:
        data: the part of the manifest.
        view: all that follows the manifest.
        end: of the last weight.

    Returns:
        The device code, and where the last code ends.

    Raises:
        ArtifactError: it is malformed, or code does not lie where it should.
    """
    if not isinstance(data, dict) or data.keys() != {"codes", "targets"}:
        raise ArtifactError("device: wanted exactly codes and targets")
    codes: dict[str, memoryview] = {}
    for row in _rows(data["codes"], 3):
        key, offset, length = row
        # A bool is an int to isinstance.
        if not isinstance(key, str) or type(offset) is not int or type(length) is not int:
            raise ArtifactError("device: an entry of a code is not [hash, offset, length]")
        if key in codes or offset != align(end) or length < 1:
            raise ArtifactError(f"device code {key}: it does not lie where the one before it ends")
        end = offset + length
        if end > len(view):
            raise ArtifactError(f"device code {key}: ends at byte {end} of {len(view)}")
        codes[key] = view[offset:end]
    device = []
    for target, compiler, kernels, dropped in _rows(data["targets"], 4):
        made = from_json(kernels, _RECORDS)
        own = {k.code for k in made if _is_kernel(k)} if isinstance(made, tuple) else set()
        device.append(
            DeviceCode(
                target=target,  # type: ignore[arg-type]
                compiler=compiler,  # type: ignore[arg-type]
                kernels=made,  # type: ignore[arg-type]
                dropped=from_json(dropped, _RECORDS),  # type: ignore[arg-type]
                codes={key: code for key, code in codes.items() if key in own},
            )
        )
    if codes.keys() != {key for d in device for key in d.codes}:
        raise ArtifactError("device: there is code of no kernel")
    return tuple(device), end


def check_device(device: Sequence[DeviceCode], *, verify: bool = True) -> None:
    """Check device code: every field of its type, and that the code is what the fields say.

    Args:
        device: of a plan.
        verify: compare code with its hash, too.

    Raises:
        Flaw: the first thing wrong, with where it is.
    """
    seen: set[str] = set()
    for one in device:
        if not isinstance(one.target, str) or one.target in seen:
            raise Flaw("device", f"target {one.target!r} is no name, or is there twice")
        seen.add(one.target)
        if not isinstance(one.compiler, str):
            raise Flaw(one.target, "its compiler has no name")
        _check_target(one, verify)


def _check_target(one: DeviceCode, verify: bool) -> None:
    try:
        card = card_of(one.target)
    except ConfigError as e:
        raise Flaw("device", str(e)) from e
    cubins: dict[str, Cubin] = {}
    for key, code in one.codes.items():
        where = f"{one.target}, code {key[:16]}"
        if verify and code_hash(code) != key:
            raise Flaw(where, "it is damaged: its hash differs; compile the plan again")
        try:
            cubins[key] = read_cubin(code)
        except ArtifactError as e:
            raise Flaw(where, str(e)) from e
        if cubins[key].arch != card.arch:
            raise Flaw(where, f"it is for sm_{cubins[key].arch}")
    seen: set[object] = set()
    for kernel in tuples(one.kernels, f"{one.target}, kernels"):
        where = _check_kernel(kernel, cubins, one.target)
        assert isinstance(kernel, DeviceKernel)
        reason = why_not(kernel, card)
        if reason is not None:
            raise Flaw(where, reason)
        if (kernel.name, kernel.constants) in seen:
            raise Flaw(where, "this configuration is there twice")
        seen.add((kernel.name, kernel.constants))
    for dropped in tuples(one.dropped, f"{one.target}, dropped"):
        if not isinstance(dropped, DroppedKernel) or not isinstance(dropped.reason, str):
            raise Flaw(one.target, "an entry of what was dropped is none, or has no reason")
        _check_name(dropped, one.target)


def _check_kernel(kernel: object, cubins: Mapping[str, Cubin], target: str) -> str:
    if not _is_kernel(kernel):
        raise Flaw(f"{target}, kernels", f"got {type(kernel).__name__}, wanted a kernel")
    assert isinstance(kernel, DeviceKernel)
    where = _check_name(kernel, target)
    numbers = (
        *(kernel.hidden, kernel.warps, kernel.shared_bytes),
        *(kernel.registers, kernel.stack_bytes, kernel.spill_bytes),
    )
    if any(type(n) is not int or not 0 <= n < 1 << 31 for n in numbers):
        raise Flaw(where, "one of its numbers is no size")
    if not isinstance(kernel.mma, str):
        raise Flaw(where, "its matrix instructions have no names")
    if kernel.hidden > _MAX_HIDDEN:
        raise Flaw(where, f"{kernel.hidden} hidden parameters")
    if kernel.code not in cubins:
        raise Flaw(where, f"its code {kernel.code!r} is not in the plan")
    found = [k for k in cubins[kernel.code].kernels if k.symbol == kernel.symbol]
    if len(found) != 1:
        raise Flaw(where, f"its code has no function {kernel.symbol!r}")
    (said,) = found
    sizes = [_PARAMETER_BYTES.get(p) for p in strings(kernel.parameters, where)]
    if (*sizes, *[8] * kernel.hidden) != said.parameter_bytes:
        raise Flaw(where, f"its parameters are not those of its code, {said.parameter_bytes}")
    stated = (kernel.registers, kernel.stack_bytes, kernel.warps * _WARP_THREADS)
    if stated != (said.registers, said.stack_bytes, said.threads or stated[2]):
        raise Flaw(where, "what it takes of a card is not what its code says")
    return where


def _is_kernel(kernel: object) -> bool:
    return isinstance(kernel, DeviceKernel) and isinstance(kernel.code, str)


def _check_name(kernel: DeviceKernel | DroppedKernel, target: str) -> str:
    if not isinstance(kernel.name, str):
        raise Flaw(target, "a kernel has no name")
    where = f"{target}, kernel {kernel.name!r}"
    for pair in tuples(kernel.constants, f"{where}, constants"):
        if not isinstance(pair, tuple) or len(pair) != 2 or type(pair[1]) not in (int, str):
            raise Flaw(where, "a constant is not a pair of a name and a value")
        strings(pair[:1], where)
    return where


def _codes(device: Sequence[DeviceCode]) -> dict[str, bytes | memoryview]:
    return {key: code for d in device for key, code in d.codes.items()}


def _rows(data: Json, width: int) -> list[list[Json]]:
    if not isinstance(data, list):
        raise ArtifactError(f"device: got {type(data).__name__}, wanted a list")
    rows: list[list[Json]] = []
    for row in data:
        if not isinstance(row, list) or len(row) != width:
            raise ArtifactError(f"device: an entry has not {width} parts")
        rows.append(row)
    return rows
