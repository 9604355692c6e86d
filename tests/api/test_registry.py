"""The registry: whatever is added, replaced and removed, it holds what its members use, no more."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fusec_testing.plans import add_blob, example_plan
from hypothesis import given, settings
from hypothesis import strategies as st

from fusec.ir.errors import ArtifactError, ConfigError
from fusec.ir.plan import Blob, Form, Member, PlanData, Structure, Variant
from fusec.ir.template import Template, TensorSpec
from fusec.registry import Registry

SPEC = TensorSpec("float32", (1,))
BASE = example_plan(n_members=1)
(MEMBER,) = BASE.members.values()
(TEMPLATE,) = BASE.templates.values()
(FORM,) = BASE.forms.values()

Kind = tuple[int, int, int]
"""(template, form of it, weight value): what tells members apart here."""


def _parts(
    kind: Kind,
) -> tuple[Member, dict[str, Template], dict[str, Form], dict[str, Blob], dict[str, Structure]]:
    template = replace(TEMPLATE, bound=((f"t{kind[0]}", "1"),))
    recipe = replace(FORM.recipe, unused=(f"f{kind[1]}",))
    form = Form(template=template.key, recipe=recipe)
    form_key = f"{kind[0]}.{kind[1]}"
    weights: dict[str, Blob] = {}
    keys = tuple(add_blob(weights, SPEC, bytes([kind[2], 0, 0, i])) for i in range(2))
    member = replace(MEMBER, variants=(Variant(form=form_key, weights=keys),))
    structures = {f"s{form_key}": Structure(forms=(form_key,), notes=())}
    return member, {template.key: template}, {form_key: form}, weights, structures


def _put(registry: Registry, name: str, kind: Kind, *, replacing: bool) -> None:
    member, templates, forms, weights, structures = _parts(kind)
    registry.put(
        name,
        member,
        templates=templates,
        forms=forms,
        weights=weights,
        structures=structures,
        replacing=replacing,
    )


def _expected(members: dict[str, Kind]) -> tuple[set[str], set[str], set[str], set[str]]:
    parts = [_parts(kind) for kind in members.values()]
    return tuple(set().union(*(p[i] for p in parts)) for i in (1, 2, 3, 4))  # type: ignore[return-value]


def _held(data: PlanData) -> tuple[set[str], set[str], set[str], set[str]]:
    return set(data.templates), set(data.forms), set(data.weights), set(data.structures)


KINDS = st.tuples(st.integers(0, 1), st.integers(0, 1), st.integers(0, 2))
STEPS = st.lists(st.tuples(st.sampled_from("abcd"), st.one_of(st.none(), KINDS)), max_size=30)


@given(STEPS)
@settings(max_examples=200)
def test_what_is_held_is_what_members_use(steps: list[tuple[str, Kind | None]]) -> None:
    registry = Registry(
        replace(BASE, members={}, templates={}, forms={}, structures={}, weights={})
    )
    model: dict[str, Kind] = {}
    for name, kind in steps:
        if kind is None:
            if name in model:
                registry.remove(name)
                del model[name]
            else:
                with pytest.raises(ConfigError, match="no model"):
                    registry.remove(name)
        else:
            _put(registry, name, kind, replacing=name in model)
            model[name] = kind
        data = registry.data()
        assert set(data.members) == set(model)
        assert _held(data) == _expected(model)
        for n in model:
            target = registry.target(n)
            assert [c.hashes for c in target.choices] == [
                v.weights for v in data.members[n].variants
            ]
    again = Registry(registry.data())
    for name in list(model):
        again.remove(name)
    assert _held(again.data()) == (set(), set(), set(), set())


def test_a_resolved_target_outlives_its_removal() -> None:
    registry = Registry(BASE)
    (name,) = BASE.members
    target = registry.target(name)
    registry.remove(name)
    assert bytes(target.choices[0].weights[0].data)
    with pytest.raises(ConfigError, match="no model"):
        registry.target(name)


def test_a_failed_put_changes_nothing() -> None:
    registry = Registry(BASE)
    (name,) = BASE.members
    before = _held(registry.data())
    with pytest.raises(ConfigError, match="already has"):
        _put(registry, name, (0, 0, 0), replacing=False)
    with pytest.raises(ConfigError, match="no model 'other'"):
        _put(registry, "other", (0, 0, 0), replacing=True)
    assert _held(registry.data()) == before


def test_a_weight_of_a_file_under_a_wrong_hash_is_not_shared() -> None:
    registry = Registry(BASE)
    _put(registry, "first", (0, 0, 1), replacing=False)
    held = registry.data()
    wrong = {k: replace(b, data=memoryview(b"\0\0\0\x7f")) for k, b in held.weights.items()}
    loaded = Registry(replace(held, weights=wrong))
    with pytest.raises(ArtifactError, match="not what its hash says"):
        _put(loaded, "second", (0, 0, 1), replacing=False)
    assert len(loaded) == len(registry)
    _put(loaded, "other", (0, 0, 2), replacing=False)
