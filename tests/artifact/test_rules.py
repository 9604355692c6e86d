"""Each rule that a plan keeps, broken once: it cannot be written, and the message says which."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fusec_testing.plans import example_plan

from fusec.artifact import write_plan
from fusec.ir.errors import VerifyError
from fusec.ir.plan import Blob, PlanData
from fusec.ir.stage import LayoutKind, plain_layout
from fusec.ir.template import Body, Ref, Row, Symbol, TensorSpec

Change = Callable[[PlanData], PlanData]


def template(**changes: Any) -> Change:
    def change(plan: PlanData) -> PlanData:
        (old,) = plan.templates.values()
        new = replace(old, **changes)
        (form,) = plan.forms.values()
        forms = {"form": replace(form, template=new.key)}
        return replace(plan, templates={new.key: new}, forms=forms)

    return change


def body(**changes: Any) -> Change:
    def change(plan: PlanData) -> PlanData:
        (old,) = plan.templates.values()
        return template(body=replace(old.body, **changes))(plan)

    return change


def row(**changes: Any) -> Change:
    def change(plan: PlanData) -> PlanData:
        (old,) = plan.templates.values()
        return body(rows=(replace(old.body.rows[0], **changes), *old.body.rows[1:]))(plan)

    return change


def recipe(**changes: Any) -> Change:
    def change(plan: PlanData) -> PlanData:
        (form,) = plan.forms.values()
        new = replace(form, recipe=replace(form.recipe, **changes))
        return replace(plan, forms={"form": new})

    return change


def guard(**changes: Any) -> Change:
    def change(plan: PlanData) -> PlanData:
        (form,) = plan.forms.values()
        return recipe(guards=(replace(form.recipe.guards[0], **changes),))(plan)

    return change


def member(**changes: Any) -> Change:
    def change(plan: PlanData) -> PlanData:
        name, old = next(iter(plan.members.items()))
        return replace(plan, members={**plan.members, name: replace(old, **changes)})

    return change


def variant(**changes: Any) -> Change:
    def change(plan: PlanData) -> PlanData:
        old = next(iter(plan.members.values())).variants[0]
        return member(variants=(replace(old, **changes),))(plan)

    return change


def weight(spec: TensorSpec) -> Change:
    def change(plan: PlanData) -> PlanData:
        key, old = next(iter(plan.weights.items()))
        own = plain_layout([int(d) for d in spec.shape])
        return replace(plan, weights={**plan.weights, key: Blob(spec, old.data, own)})

    return change


def symbolic(plan: PlanData) -> PlanData:
    key, old = next(iter(plan.weights.items()))
    new = Blob(TensorSpec("float32", ("4", 3)), old.data, old.layout)
    return replace(plan, weights={**plan.weights, key: new})


def layout(**changes: Any) -> Change:
    """Change the layout of the first weight, which is float32 [4, 3] and plain."""

    def change(plan: PlanData) -> PlanData:
        key, old = next(iter(plan.weights.items()))
        new = Blob(old.spec, old.data, replace(old.layout, **changes))
        return replace(plan, weights={**plan.weights, key: new})

    return change


PANELS = {"kind": LayoutKind.PANELS, "order": (1, 0), "groups": 1, "k": 3, "n": 4, "nr": 16}


def swapped(plan: PlanData) -> PlanData:
    keys = next(iter(plan.members.values())).variants[0].weights
    return variant(weights=keys[::-1])(plan)


def nested(depth: int) -> Any:
    arg: Any = 1
    for _ in range(depth):
        arg = (arg,)
    return arg


def bodies(depth: int) -> Body:
    inner = Body(arguments=(), rows=(), results=())
    for _ in range(depth):
        inner = Body((), (Row(op="loop", args=(inner,), kwargs=(), out="none"),), ())
    return inner


F32 = TensorSpec("float32", (4, 3))
BROKEN: dict[str, tuple[Change, str]] = {
    "a reference to the row itself": (row(args=(Ref(3),)), r"row 0 .*reference 3 is to none of"),
    "a negative reference": (row(args=(Ref(-1),)), "reference -1"),
    "a reference that is a boolean": (row(args=(Ref(True),)), "reference True"),
    "a reference inside a tuple": (row(args=((1, (Ref(7),)),)), "reference 7"),
    "a reference in an attribute": (row(kwargs=(("bias", Ref(9)),)), "bias: reference 9"),
    "a result that is no value": (body(results=(Ref(5),)), "results: reference 5"),
    "an operator without a name": (row(op=None), "operator is NoneType"),
    "an integer beyond 64 bits": (row(args=(2**64,)), "does not fit 64 bits"),
    "tuples in tuples": (row(args=(nested(65),)), "nested deeper than 64"),
    "bodies in bodies": (row(args=(bodies(70),)), "nested deeper than 64"),
    "an unknown dtype": (row(out=TensorSpec("float31", ())), "'float31' is not known"),
    "an unknown host value": (row(out="text"), "'text', wanted"),
    "65 axes": (row(out=TensorSpec("float32", (1,) * 65)), "65 axes"),
    "a negative extent": (row(out=TensorSpec("float32", (-1,))), "extent -1"),
    "an undeclared symbol": (row(out=TensorSpec("float32", ("s0 + s9",))), "unknown symbols: s9"),
    "an expression that calls": (row(out=TensorSpec("float32", ("f(s0)",))), "not allowed"),
    "an expression that is none": (template(constraints=("s0 >",)), "constraints: .*s0 >"),
    "a symbol without a range": (template(symbols=(Symbol("s0", None, None),)), "no range"),  # type: ignore[arg-type]
    "more inputs than arguments": (template(n_inputs=4), "4 inputs of 3 arguments"),
    "fewer axes than inputs": (template(input_axes=()), "axes of 0 inputs"),
    "an axis that the input lacks": (template(input_axes=(3,)), "axis 3 is none of 3"),
    "a bound input of three": (template(bound=(("a", "b", "c"),)), "pair"),
    "a key of another template": (
        lambda p: replace(p, templates={"key": next(iter(p.templates.values()))}),
        "the key is not the template's",
    ),
    "a form of no template": (
        lambda p: replace(p, forms={"form": replace(p.forms["form"], template="t")}),
        "template 't' is not in the plan",
    ),
    "more names than weights": (recipe(names=("fc.weight", "a", "b")), "3 weight names for 2"),
    "a tie to no weight": (recipe(aliases=(("a", "b"),)), "weight's name"),
    "an unused weight without a name": (recipe(unused=(1,)), "unused weights: an item"),
    "a recipe of fewer results": (recipe(guards=()), "gives 3 values for 2 packed weights and 0"),
    "a guard without a text": (guard(text=None), "the text is no string"),
    "a guard of text": (guard(operand="2"), "operand '2' is no number"),
    "a structure of no form": (
        lambda p: replace(p, structures={"s": replace(p.structures["raw"], forms=("f",))}),
        "form 'f' is not in the plan",
    ),
    "a member of no variant": (member(variants=()), "it has no variant"),
    "a member of more inputs": (member(input_names=("x", "y")), "not as many as the template's"),
    "a member of fewer outputs": (member(output_names=()), "not as many as the template's"),
    "a member of fewer weight names": (member(weight_names=()), "not as many as the first form's"),
    "a variant of no form": (variant(form="f"), "form 'f' is not in the plan"),
    "a variant of fewer weights": (variant(weights=()), "0 weights, its template has 2"),
    "a variant of unknown weights": (variant(weights=("a", "b")), "weight 'a' is not in the plan"),
    "weights in another order": (swapped, "its template has"),
    "a weight of another length": (weight(TensorSpec("float32", (4, 4))), "48 bytes, but .* is 64"),
    "a weight with a symbol": (symbolic, "extents are numbers"),
    "a weight that is huge": (weight(TensorSpec("bool", (0, 2**62, 2))), "larger than any memory"),
    "a layout of padded panels": (layout(**PANELS), "48 bytes, but .* in its layout is 192"),
    "a layout of other axes": (layout(order=(0, 1, 2)), "orders axes"),
    "a layout of one axis twice": (layout(order=(0, 0)), "orders axes"),
    "a layout without a group": (layout(groups=0), "no place for each element"),
    "a layout of too few columns": (layout(**{**PANELS, "n": 3}), "no place for each element"),
    "a layout of other elements": (layout(split=(4, 4), order=(0, 1)), "splits"),
    "a layout that orders unsplit axes": (layout(split=(2, 2, 3)), "orders axes"),
    "a layout split backwards": (layout(split=(-4, -3)), "is no size"),
    "a layout of no panel": (layout(**{**PANELS, "nr": 0}), "is no size"),
    "a layout that runs backwards": (layout(k=-1, n=-12), "is no size"),
    "a layout with a yes": (layout(groups=True), "is no size"),
    "a layout of giant panels": (layout(**{**PANELS, "nr": 2**62}), "larger than any memory"),
    "a plain layout of panels": (layout(nr=4), "is plain and says otherwise"),
    "a layout of no kind": (layout(kind="panels"), "has no layout"),
    "half panels of other bytes": (
        layout(**PANELS, stored="bfloat16"),
        "48 bytes, but .* in its layout is 96",
    ),
    "a plain weight that is half": (layout(stored="bfloat16"), "plain and says otherwise"),
    "panels of an unknown half": (layout(**PANELS, stored="float16"), "stored as 'float16'"),
    "panels stored as nothing": (layout(**PANELS, stored=""), "stored as ''"),
    "panels of integers, halved": (
        lambda p: layout(**PANELS, stored="bfloat16")(weight(TensorSpec("int32", (4, 3)))(p)),
        "panels of int32 cannot be stored",
    ),
    "an unknown storage": (
        lambda p: replace(p, weight_storage="bfloat16"),  # type: ignore[arg-type]
        "weight storage: got 'bfloat16'",
    ),
    "no thread": (lambda p: replace(p, threads=0), "threads: got 0"),
    "a yes for threads": (lambda p: replace(p, threads=True), "threads: got True"),
    "an unknown executor": (lambda p: replace(p, executor="fast"), "executor: got 'fast'"),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_plan_that_breaks_a_rule_is_not_written(name: str, tmp_path: Path) -> None:
    change, match = BROKEN[name]
    with pytest.raises(VerifyError, match=match):
        write_plan(change(example_plan()), tmp_path / "a.fusec")
    assert list(tmp_path.iterdir()) == []


def test_the_changes_change_nothing_else(tmp_path: Path) -> None:
    """What the broken plans have in common is not what breaks them."""
    for change in (template(), body(), row(), recipe(), guard(), member(), variant()):
        write_plan(change(example_plan()), tmp_path / "a.fusec")
    write_plan(row(args=(nested(60), bodies(40), Ref(2)))(example_plan()), tmp_path / "a.fusec")
