"""How a model joins a plan: captured programs, twins of a known structure, or bare weights."""

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from fusec.importers.importing import Imported, Twin
from fusec.ir.errors import ConfigError, GuardBroken
from fusec.ir.plan import Blob, Form, Member, Structure, Variant
from fusec.ir.records import to_json
from fusec.ir.stage import Layout
from fusec.ir.template import Template
from fusec.kernels.torch_graph import from_numpy
from fusec.passes.canonicalise import canonicalise
from fusec.passes.pack import pack
from fusec.passes.program import Program
from fusec.registry import Registry
from fusec.runtime.recipe import apply_recipe
from fusec.runtime.request import Target
from fusec.runtime.weights import blob_of, check_finite
from fusec.twins import Proof

__all__ = ["Layouts", "put_imported", "put_like", "put_twin"]

_PARALLEL_BYTES = 1 << 22
"""From here on packing a model is worth a few threads."""

Layouts = Callable[[Template], Sequence[Layout]]
"""Template -> layout of each of its weights."""


def put_imported(
    registry: Registry, name: str, imported: Imported, layouts: Layouts, *, replacing: bool
) -> Target | None:
    """Add a freshly captured model: canonicalise, cut, pack.

    Args:
        registry: of the plan.
        name: of the member.
        imported: the captured programs, the general one first.
        layouts: how the plan holds weights.
        replacing: whether a member of this name must be there, or must not.

    Raises:
        ConfigError: a weight holds NaN.
        UnsupportedError: an operator outside the operator set.
    """
    templates: dict[str, Template] = {}
    forms: dict[str, Form] = {}
    blobs: dict[str, Blob] = {}
    variants = []
    for program in imported.programs:
        check_finite(program.weights)
        key, template, form = _form(program)
        templates[form.template] = template
        forms[key] = form
        hashes = _store(apply_recipe(form.recipe, program.weights), layouts(template), blobs)
        variants.append(Variant(form=key, weights=hashes))
    first = imported.programs[0]
    own = imported.weight_names
    member = Member(
        input_names=first.input_names,
        output_names=first.output_names,
        variants=tuple(variants),
        weight_names=tuple(own.get(n, n) for n in forms[variants[0].form].recipe.names),
        notes=imported.notes,
    )
    structures = {}
    # A constant that tracing made is in no file, so a twin could not hand it in: trace each anew.
    given = all(n in own for program in imported.programs for n in program.weights)
    if imported.structure is not None and given:
        keys = tuple(v.form for v in variants)
        structures[imported.structure] = Structure(forms=keys, notes=imported.notes)
    return registry.put(
        name,
        member,
        templates=templates,
        forms=forms,
        weights=blobs,
        structures=structures,
        replacing=replacing,
    )


def put_twin(
    registry: Registry, name: str, twin: Twin, layouts: Layouts, *, replacing: bool
) -> Target | None:
    """Add a model whose program the plan knows: nothing is traced, only weights are taken.

    Raises:
        ConfigError: a weight holds NaN.
        GuardBroken: a weight breaks a guard, or the program gives other answers than the model.
    """
    structure = twin.known
    names = registry.form(structure.forms[0]).recipe.names
    member = Member(
        input_names=twin.input_names,
        output_names=twin.output_names,
        variants=tuple(Variant(form=f, weights=()) for f in structure.forms),
        weight_names=tuple(twin.weight_names.get(n, n) for n in names),
        notes=structure.notes,
    )
    proof = None if twin.proof is None else Proof(*twin.proof)
    return _put_raw(registry, name, member, twin.weights, layouts, proof, replacing=replacing)


def put_like(
    registry: Registry,
    name: str,
    weights: Mapping[str, object],
    like: str,
    layouts: Layouts,
    *,
    replacing: bool,
) -> Target | None:
    """Add a member from bare weights, in the form of another member.

    Args:
        registry: of the plan.
        name: of the new member.
        weights: raw weights under the names that `like` was imported with, as in a state dict.
        like: an existing member.
        layouts: how the plan holds weights.
        replacing: whether a member of this name must be there, or must not.

    Raises:
        ConfigError: no such member; a weight that is missing, unexpected, of another dtype or
            shape, NaN, or that breaks a guard.
    """
    member = registry.target(like).member
    recipe = registry.form(member.variants[0].form).recipe
    own = dict(zip(member.weight_names, recipe.names, strict=True))
    raw = {own.get(str(k), str(k)): _as_tensor(str(k), v) for k, v in weights.items()}
    return _put_raw(registry, name, member, raw, layouts, None, replacing=replacing)


def _form(program: Program) -> tuple[str, Template, Form]:
    canonical, _ = canonicalise(program)
    template, recipe = pack(canonical)
    form = Form(template=template.key, recipe=recipe)
    text = json.dumps(to_json(form), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest(), template, form


def _put_raw(
    registry: Registry,
    name: str,
    like: Member,
    raw: Mapping[str, torch.Tensor],
    layouts: Layouts,
    proof: Proof | None,
    *,
    replacing: bool,
) -> Target | None:
    """Pack raw weights in every form of a member and enter the result, once it has its proof."""
    registry.check_name(name, replacing=replacing)
    names = registry.form(like.variants[0].form).recipe.names
    shown = dict(zip(names, like.weight_names, strict=True))
    check_finite({shown.get(n, n): t for n, t in raw.items()})
    forms = {v.form: registry.form(v.form) for v in like.variants}
    templates = {f.template: registry.template(f.template) for f in forms.values()}
    blobs: dict[str, Blob] = {}
    variants = []
    proved = proof is None
    for v in like.variants:
        form = forms[v.form]
        template = templates[form.template]
        packed = apply_recipe(form.recipe, raw, shown)
        if proof is not None and not proved:
            proved = proof.check(template, packed)
        variants.append(Variant(form=v.form, weights=_store(packed, layouts(template), blobs)))
    if not proved:
        raise GuardBroken("none of its twin's programs takes its example")
    member = Member(
        input_names=like.input_names,
        output_names=like.output_names,
        variants=tuple(variants),
        weight_names=like.weight_names,
        notes=like.notes,
    )
    return registry.put(
        name,
        member,
        templates=templates,
        forms=forms,
        weights=blobs,
        structures={},
        replacing=replacing,
    )


def _store(
    packed: Sequence[torch.Tensor], layouts: Sequence[Layout], blobs: dict[str, Blob]
) -> tuple[str, ...]:
    # Copying and hashing leave the interpreter free.
    threads = min(8, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1)
    if threads > 1 and sum(t.nbytes for t in packed) >= _PARALLEL_BYTES:
        with ThreadPoolExecutor(threads) as pool:
            made = list(pool.map(blob_of, packed, layouts))
    else:
        made = [blob_of(tensor, layout) for tensor, layout in zip(packed, layouts, strict=True)]
    blobs.update(made)
    return tuple(key for key, _ in made)


def _as_tensor(name: str, value: object) -> torch.Tensor:
    if isinstance(value, torch.Tensor):
        return value.detach()
    if isinstance(value, np.ndarray) and value.dtype.kind in "fiubc":
        return from_numpy(value)
    raise ConfigError(
        f"weight {name!r} is a {type(value).__name__}; give torch tensors or NumPy arrays"
    )
