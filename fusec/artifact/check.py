"""Checks of a whole plan: types, references between records, weights that fit their templates."""

from collections.abc import Mapping

from fusec.artifact.body import (
    MAX_RANK,
    Flaw,
    check_body,
    check_expression,
    strings,
    tuples,
)
from fusec.artifact.weights import check_weights
from fusec.ir.plan import Executor, Form, Member, PlanData, Structure, Variant, WeightStorage
from fusec.ir.template import Guard, Predicate, Recipe, RowsKind, Symbol, Template, TensorSpec

__all__ = ["check_plan", "check_template"]


def check_plan(plan: PlanData) -> None:
    """Check every record of a plan; weights by spec and length, not by their bytes.

    Raises:
        Flaw: the first thing wrong, with where it is.
    """
    for key, template in plan.templates.items():
        if check_template(template).key != key:
            raise Flaw(f"template {key}", "the key is not the template's")
    check_weights(plan.weights)
    for key, form in plan.forms.items():
        _check_form(form, plan.templates, f"form {key}")
    for key, structure in plan.structures.items():
        _check_structure(structure, plan.forms, f"structure {key}")
    for name, member in plan.members.items():
        _check_member(member, plan, f"member {name!r}")
    if not isinstance(plan.executor, Executor):
        raise Flaw("executor", f"got {plan.executor!r}")
    if plan.threads is not None and (type(plan.threads) is not int or plan.threads < 1):
        raise Flaw("threads", f"got {plan.threads!r}, wanted a positive integer or nothing")
    if plan.weight_storage is not None and not isinstance(plan.weight_storage, WeightStorage):
        raise Flaw("weight storage", f"got {plan.weight_storage!r}")


def check_template(template: object) -> Template:
    """Check a template by itself.

    Raises:
        Flaw: the first thing wrong.
    """
    where = "template"
    if not isinstance(template, Template):
        raise Flaw(where, f"got {type(template).__name__}")
    symbols = frozenset(_check_symbol(s) for s in tuples(template.symbols, f"{where}, symbols"))
    body = check_body(template.body, symbols, where)
    for constraint in strings(template.constraints, f"{where}, constraints"):
        check_expression(constraint, symbols, f"{where}, constraints")
    count = template.n_inputs
    if type(count) is not int or not 0 <= count <= len(body.arguments):
        raise Flaw(where, f"{count!r} inputs of {len(body.arguments)} arguments")
    inputs = tuples(template.input_axes, f"{where}, input axes")
    outputs = tuples(template.output_axes, f"{where}, output axes")
    if len(inputs) != count or len(outputs) != len(body.results):
        raise Flaw(where, f"axes of {len(inputs)} inputs and {len(outputs)} outputs")
    for axis, spec in zip(inputs, template.inputs, strict=True):
        _check_axis(axis, len(spec.shape) if isinstance(spec, TensorSpec) else 0, where)
    for axis in outputs:
        _check_axis(axis, MAX_RANK, where)
    if not isinstance(template.rows, RowsKind):
        raise Flaw(where, f"rows are {template.rows!r}")
    for pair in tuples(template.bound, f"{where}, bound inputs"):
        if len(strings(pair, f"{where}, bound inputs")) != 2:
            raise Flaw(where, "a bound input is not a pair of a name and a value")
    return template


def _check_axis(axis: object, rank: int, where: str) -> None:
    # A bool is an int to isinstance.
    if axis is not None and (type(axis) is not int or not 0 <= axis < rank):
        raise Flaw(where, f"batch axis {axis!r} is none of {rank} axes")


def _check_symbol(symbol: object) -> str:
    where = "template, symbols"
    if not isinstance(symbol, Symbol) or not isinstance(symbol.name, str):
        raise Flaw(where, "an entry is no symbol, or its name no string")
    ends = (symbol.min, symbol.max if symbol.max is not None else symbol.min)
    if any(type(end) is not int for end in ends) or not symbol.name.isidentifier():
        raise Flaw(where, f"{symbol.name!r} has no name or no range")
    return symbol.name


def _check_form(form: object, templates: Mapping[str, Template], where: str) -> None:
    if not isinstance(form, Form) or not isinstance(form.recipe, Recipe):
        raise Flaw(where, "it is no form, or has no recipe")
    if not isinstance(form.template, str) or form.template not in templates:
        raise Flaw(where, f"template {form.template!r} is not in the plan")
    template = templates[form.template]
    # A recipe makes weights; a weight's extents may not depend on a request.
    body = check_body(form.recipe.body, frozenset(), f"{where}, recipe")
    names = strings(form.recipe.names, f"{where}, weight names")
    strings(form.recipe.unused, f"{where}, unused weights")
    _check_aliases(form.recipe.aliases, names, f"{where}, tied weights")
    guards = tuples(form.recipe.guards, f"{where}, guards")
    for guard in guards:
        _check_guard(guard, f"{where}, guards")
    if len(names) != len(body.arguments):
        raise Flaw(where, f"{len(names)} weight names for {len(body.arguments)} weights")
    if len(body.results) != len(template.weights) + len(guards):
        raise Flaw(
            where,
            f"recipe gives {len(body.results)} values for {len(template.weights)} packed "
            f"weights and {len(guards)} guards",
        )


def _check_aliases(aliases: object, names: tuple[str, ...], where: str) -> None:
    for pair in tuples(aliases, where):
        alias = strings(pair, where)
        if len(alias) != 2 or alias[1] not in names:
            raise Flaw(where, "an entry is not a pair of a name and a weight's name")


def _check_structure(structure: object, forms: Mapping[str, Form], where: str) -> None:
    if not isinstance(structure, Structure):
        raise Flaw(where, f"got {type(structure).__name__}")
    strings(structure.notes, f"{where}, notes")
    for form in strings(structure.forms, f"{where}, forms"):
        if form not in forms:
            raise Flaw(where, f"form {form!r} is not in the plan")


def _check_guard(guard: object, where: str) -> None:
    if not isinstance(guard, Guard) or not isinstance(guard.predicate, Predicate):
        raise Flaw(where, "an entry is no guard, or its predicate unknown")
    if guard.operand is not None and type(guard.operand) not in (int, float):
        raise Flaw(where, f"operand {guard.operand!r} is no number")
    if not isinstance(guard.text, str):
        raise Flaw(where, "the text is no string")


def _check_member(member: object, plan: PlanData, where: str) -> None:
    if not isinstance(member, Member):
        raise Flaw(where, f"got {type(member).__name__}")
    strings(member.notes, f"{where}, notes")
    inputs = strings(member.input_names, f"{where}, inputs")
    outputs = strings(member.output_names, f"{where}, outputs")
    names = strings(member.weight_names, f"{where}, weight names")
    if not tuples(member.variants, f"{where}, variants"):
        raise Flaw(where, "it has no variant")
    for variant in member.variants:
        template = _check_variant(variant, plan, where)
        if template.n_inputs != len(inputs) or len(template.body.results) != len(outputs):
            raise Flaw(where, "names of inputs or outputs are not as many as the template's")
    if len(names) != len(plan.forms[member.variants[0].form].recipe.names):
        raise Flaw(where, "names of weights are not as many as the first form's")


def _check_variant(variant: object, plan: PlanData, where: str) -> Template:
    if not isinstance(variant, Variant):
        raise Flaw(where, f"a variant is {type(variant).__name__}")
    if not isinstance(variant.form, str) or variant.form not in plan.forms:
        raise Flaw(where, f"form {variant.form!r} is not in the plan")
    template = plan.templates[plan.forms[variant.form].template]
    keys = strings(variant.weights, f"{where}, weights")
    if len(keys) != len(template.weights):
        raise Flaw(where, f"{len(keys)} weights, its template has {len(template.weights)}")
    for key, spec in zip(keys, template.weights, strict=True):
        if key not in plan.weights:
            raise Flaw(where, f"weight {key!r} is not in the plan")
        if plan.weights[key].spec != spec:
            raise Flaw(where, f"weight {key} is {plan.weights[key].spec}, its template has {spec}")
    return template
