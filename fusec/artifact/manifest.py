"""The manifest: a plan without its weights' bytes, as JSON data.

{"templates": [[key, Template]], "forms": [[hash, Form]],
 "structures": [[hash, Structure]], "members": [[name, Member]],
 "kinds": [[TensorSpec, Layout]], "weights": [[hash, offset, length, number of its kind]],
 "sums": [checksum of each section of the weights' bytes],
 "executor": Executor, "threads": 2, "weight_storage": WeightStorage or null,
 "profile": ..., "explain": ...,
 "device": see `device`; only there in plans that carry code for graphics cards}

Offsets count from the first weight, so the manifest does not depend on its own length. Pairs,
not objects, so that order is kept and any name, the empty one too, is just data.
"""

import json
from collections.abc import Iterator, Mapping, Sequence

from fusec.artifact.layout import align
from fusec.artifact.sums import section_sums
from fusec.ir.device import DeviceCode
from fusec.ir.errors import ArtifactError
from fusec.ir.frozen import dataclass
from fusec.ir.plan import Executor, Form, Member, PlanData, Structure, Variant, WeightStorage
from fusec.ir.records import Json, from_json, to_json
from fusec.ir.stage import Layout, LayoutKind
from fusec.ir.template import (
    Body,
    DType,
    Guard,
    Predicate,
    Recipe,
    Ref,
    Row,
    RowsKind,
    Symbol,
    Template,
    TensorSpec,
)

__all__ = ["Entry", "Manifest", "data_pieces", "decode", "encode", "parse", "weight_table"]

_RECORDS = {
    record.__name__: record
    for record in (
        Body,
        DType,
        Executor,
        Form,
        Guard,
        Layout,
        LayoutKind,
        Member,
        Predicate,
        Recipe,
        Ref,
        Row,
        RowsKind,
        Structure,
        Symbol,
        Template,
        TensorSpec,
        Variant,
        WeightStorage,
    )
}
_TABLES = ("templates", "forms", "structures", "members")
_SETTINGS = ("executor", "threads", "weight_storage")
_DEVICE = "device"
_PARTS = (*_TABLES, "kinds", "weights", "sums", *_SETTINGS, "profile", "explain")


@dataclass(frozen=True, slots=True)
class Entry:
    """Where a weight lies; offset from the first weight, both in bytes."""

    offset: int
    length: int
    spec: TensorSpec
    layout: Layout


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """A manifest as read: records are built, their contents are not checked yet."""

    templates: Mapping[str, object]
    forms: Mapping[str, object]
    structures: Mapping[str, object]
    members: Mapping[str, object]
    weights: Mapping[str, Entry]
    sums: Sequence[object]
    executor: object
    threads: object
    weight_storage: object
    profile: Json
    explain: Json
    device: Json
    """Not even built: it takes knowledge of cards, which few plans need."""


def weight_table(plan: PlanData) -> dict[str, Entry]:
    """Lay out the weights of a plan, in its order."""
    table: dict[str, Entry] = {}
    end = 0
    for key, blob in plan.weights.items():
        table[key] = Entry(align(end), blob.data.nbytes, blob.spec, blob.layout)
        end = align(end) + blob.data.nbytes
    return table


def data_pieces(plan: PlanData, device: Sequence[DeviceCode] = ()) -> Iterator[memoryview | bytes]:
    """Give all that follows the manifest: weights, device code, and zeros between them."""
    end = 0
    for entry, blob in zip(weight_table(plan).values(), plan.weights.values(), strict=True):
        yield bytes(entry.offset - end)
        yield blob.data
        end = entry.offset + entry.length
    if device:
        from fusec.artifact.device import code_pieces

        yield from code_pieces(device, end)


def encode(
    plan: PlanData, *, profile: Json, explain: Json, device: Sequence[DeviceCode] = ()
) -> bytes:
    """Give the manifest of a plan; equal plans give equal bytes.

    Raises:
        ValueError: a section holds a float that JSON cannot spell.
        TypeError: a section holds something that is not JSON data.
    """
    weights = weight_table(plan).items()
    kinds: dict[tuple[TensorSpec, Layout], int] = {}
    for _, e in weights:
        kinds.setdefault((e.spec, e.layout), len(kinds))
    data: dict[str, Json] = {
        **{t: [[k, to_json(v)] for k, v in getattr(plan, t).items()] for t in _TABLES},
        "kinds": [[to_json(spec), to_json(layout)] for spec, layout in kinds],
        "weights": [[key, e.offset, e.length, kinds[e.spec, e.layout]] for key, e in weights],
        "sums": [*section_sums(data_pieces(plan, device))],
        "executor": to_json(plan.executor),
        "threads": plan.threads,
        "weight_storage": to_json(plan.weight_storage),
        "profile": profile,
        "explain": explain,
    }
    if device:
        from fusec.artifact.device import encode_device

        end = max((e.offset + e.length for _, e in weights), default=0)
        data[_DEVICE] = encode_device(device, end)
    return json.dumps(data, separators=(",", ":"), allow_nan=False).encode()


def parse(manifest: bytes) -> Json:
    """Parse the manifest's text.

    Raises:
        ArtifactError: not UTF-8, not JSON, or nested too deep.
    """
    try:
        return _loads(manifest.decode())
    except ValueError as e:
        raise ArtifactError(f"manifest is not JSON: {e}") from e
    except RecursionError:
        # The chain of a thousand frames says nothing.
        raise ArtifactError("manifest is nested too deep") from None


def decode(data: Json) -> Manifest:
    """Build the records of a parsed manifest.

    Raises:
        ArtifactError: a part is missing, unknown, of another kind, or nested too deep.
    """
    if not isinstance(data, dict) or data.keys() - {_DEVICE} != set(_PARTS):
        raise ArtifactError(f"manifest does not have exactly the parts {', '.join(_PARTS)}")
    try:
        return Manifest(
            templates=_table(data, "templates"),
            forms=_table(data, "forms"),
            structures=_table(data, "structures"),
            members=_table(data, "members"),
            weights=_entries(data["weights"], _kinds(data["kinds"])),
            sums=_list(data["sums"], "sums"),
            executor=_record(data["executor"]),
            threads=data["threads"],
            weight_storage=_record(data["weight_storage"]),
            profile=data["profile"],
            explain=data["explain"],
            device=data.get(_DEVICE),
        )
    except RecursionError:
        raise ArtifactError("records are nested too deep") from None


def _loads(text: str) -> Json:
    """Parse standard JSON; NaN and Infinity are not."""
    data: Json = json.loads(text, parse_constant=_no_constant)
    return data


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not a JSON value")


def _record(data: Json) -> object:
    return from_json(data, _RECORDS)


def _list(data: Json, where: str) -> list[Json]:
    if not isinstance(data, list):
        raise ArtifactError(f"{where}: got {type(data).__name__}, wanted a list")
    return data


def _table(data: Mapping[str, Json], part: str) -> dict[str, object]:
    table: dict[str, object] = {}
    for pair in _list(data[part], part):
        if not isinstance(pair, list) or len(pair) != 2 or not isinstance(pair[0], str):
            raise ArtifactError(f"{part}: an entry is not a pair of a name and a record")
        if pair[0] in table:
            raise ArtifactError(f"{part}: {pair[0]!r} is there twice")
        table[pair[0]] = _record(pair[1])
    return table


def _kinds(data: Json) -> list[tuple[TensorSpec, Layout]]:
    kinds = []
    for pair in _list(data, "kinds"):
        if not isinstance(pair, list) or len(pair) != 2:
            raise ArtifactError("kinds: an entry is not [spec, layout]")
        spec, layout = map(_record, pair)
        if not isinstance(spec, TensorSpec) or not isinstance(layout, Layout):
            raise ArtifactError("kinds: spec or layout is of another type")
        kinds.append((spec, layout))
    return kinds


def _entries(data: Json, kinds: list[tuple[TensorSpec, Layout]]) -> dict[str, Entry]:
    table: dict[str, Entry] = {}
    for row in _list(data, "weights"):
        if not isinstance(row, list) or len(row) != 4:
            raise ArtifactError("weights: an entry is not [hash, offset, length, kind]")
        key, offset, length, kind = row
        if not isinstance(key, str) or key in table:
            raise ArtifactError(f"weights: {key!r} is no hash, or is there twice")
        # A bool is an int to isinstance.
        if type(offset) is not int or type(length) is not int:
            raise ArtifactError(f"weight {key}: offset or length is of another type")
        if type(kind) is not int or not 0 <= kind < len(kinds):
            raise ArtifactError(f"weight {key}: kind {kind!r} is none of {len(kinds)}")
        table[key] = Entry(offset, length, *kinds[kind])
    return table
