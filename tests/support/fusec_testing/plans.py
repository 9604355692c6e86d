"""Small plans made by hand, and random ones, for tests that need no model."""

import hashlib
import math

import numpy as np
from hypothesis import strategies as st

from fusec.ir.dtypes import DTYPES, itemsize_bytes
from fusec.ir.plan import (
    Blob,
    Executor,
    Form,
    Member,
    PlanData,
    Structure,
    Variant,
    WeightStorage,
    blob_hash,
    plain_blob,
)
from fusec.ir.stage import Layout, LayoutKind, packed_elements, plain_layout, stored_dtype
from fusec.ir.template import (
    Arg,
    Body,
    DType,
    Guard,
    Predicate,
    Recipe,
    Ref,
    Row,
    RowsKind,
    Spec,
    Symbol,
    Template,
    TensorSpec,
)

__all__ = ["assert_plans_equal", "example_plan", "plans"]


def example_plan(*, seed: int = 0, n_members: int = 2) -> PlanData:
    """A plan that uses every record: a linear template, a form with a guard, a packed weight."""
    f32 = TensorSpec("float32", (1, "s0", 3))
    weight = TensorSpec("float32", (4, 3))
    inner = Body(
        arguments=("int",),
        rows=(Row(op="add.Tensor", args=(Ref(0), 1), kwargs=(), out="int"),),
        results=(Ref(1),),
    )
    linear = Row(
        op="linear",
        args=(Ref(0), Ref(1)),
        kwargs=(("bias", Ref(2)), ("dtype", DType("float32")), ("eps", float("inf"))),
        out=TensorSpec("float32", (1, "s0", 4)),
    )
    loop = Row(op="while_loop", args=(inner, (1, True, None, "x")), kwargs=(), out=("int", "bool"))
    template = Template(
        n_inputs=1,
        body=Body(
            arguments=(f32, weight, TensorSpec("float32", (4,))),
            rows=(linear, loop),
            results=(Ref(3),),
        ),
        symbols=(Symbol("s0", 2, 512), Symbol("s1", 1, None)),
        constraints=("Eq(Mod(s0, 2), 0)",),
        input_axes=(0,),
        output_axes=(0,),
        rows=RowsKind.INDEPENDENT,
        bound=(("sr", "int64[]:10"),),
    )
    transpose = Row(op="t", args=(Ref(0),), kwargs=(), out=weight)
    recipe = Recipe(
        names=("fc.weight", "fc.bias"),
        aliases=(("tied.weight", "fc.weight"),),
        unused=("fc.steps",),
        body=Body(
            arguments=(TensorSpec("float32", (3, 4)), TensorSpec("float32", (4,))),
            rows=(transpose,),
            results=(Ref(2), Ref(1), Ref(1)),
        ),
        guards=(Guard(predicate=Predicate.EQUALS, operand=2.0, text="fc.bias equals 2"),),
    )
    rng = np.random.default_rng(seed)
    weights: dict[str, Blob] = {}
    members = {}
    for i in range(n_members):
        bias = TensorSpec("float32", (4,))
        panels = Layout(
            kind=LayoutKind.PANELS, order=(0,), groups=1, k=1, n=4, nr=16, stored="bfloat16"
        )
        keys = [
            add_blob(weights, weight, rng.bytes(48)),
            add_blob(weights, bias, rng.bytes(32), panels),
        ]
        members[f"tenant {i}"] = Member(
            input_names=("x",),
            output_names=("y",),
            variants=(Variant(form="form", weights=tuple(keys)),),
            weight_names=("a.weight", "a.bias"),
            notes=("batch axis 0",),
        )
    return PlanData(
        templates={template.key: template},
        forms={"form": Form(template=template.key, recipe=recipe)},
        structures={"raw": Structure(forms=("form",), notes=("batch axis 0",))},
        members=members,
        weights=weights,
        executor=Executor.ISOLATED,
        threads=2,
        weight_storage=WeightStorage.BFLOAT16,
    )


def add_blob(
    weights: dict[str, Blob], spec: TensorSpec, data: bytes, layout: Layout | None = None
) -> str:
    """Put a weight into a table under its hash; without a layout it is plain."""
    key = blob_hash(spec, data, layout)
    plain = plain_blob(spec, memoryview(data))
    weights[key] = plain if layout is None else Blob(spec, memoryview(data), layout)
    return key


def assert_plans_equal(a: PlanData, b: PlanData) -> None:
    """Check that two plans are the same in every field, weights byte for byte, in order."""
    for name in ("templates", "forms", "structures", "members"):
        assert list(getattr(a, name).items()) == list(getattr(b, name).items()), name
    assert (a.executor, a.threads) == (b.executor, b.threads)
    assert a.weight_storage is b.weight_storage
    assert list(a.weights) == list(b.weights)
    for key in a.weights:
        assert a.weights[key].spec == b.weights[key].spec
        assert a.weights[key].layout == b.weights[key].layout
        assert bytes(a.weights[key].data) == bytes(b.weights[key].data)


_dtypes = st.sampled_from(sorted(DTYPES))
_extents = st.integers(0, 5) | st.sampled_from(["s0", "2*s0 + 1", "Max(1, s0)"])
_fixed = st.builds(TensorSpec, _dtypes, st.lists(st.integers(0, 4), max_size=3).map(tuple))
_tensors = st.builds(TensorSpec, _dtypes, st.lists(_extents, max_size=4).map(tuple))
_host = st.sampled_from(["int", "float", "bool", "none"])
_specs = st.recursive(_tensors | _host, lambda s: st.lists(s, max_size=3).map(tuple), max_leaves=4)
_text = st.text(max_size=8)
_names = st.lists(_text, max_size=3).map(tuple)


def _args(count: int) -> st.SearchStrategy[Arg]:
    plain: st.SearchStrategy[Arg] = st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**63), 2**63),
        # NaN equals nothing, itself included; it has a test of its own.
        st.floats(allow_nan=False),
        _text,
        st.builds(DType, _dtypes),
    )
    if count:
        plain |= st.builds(Ref, st.integers(0, count - 1))
    return st.recursive(plain, lambda a: st.lists(a, max_size=3).map(tuple), max_leaves=4)


@st.composite
def _bodies(
    draw: st.DrawFn,
    arguments: tuple[Spec, ...],
    n_results: int,
    specs: st.SearchStrategy[Spec],
    depth: int = 1,
) -> Body:
    rows: list[Row] = []
    for _ in range(draw(st.integers(0, 3))):
        args = _args(len(arguments) + len(rows))
        if depth:
            args |= _bodies((TensorSpec("float32", ()),), 1, specs, depth - 1)
        rows.append(
            Row(
                op=draw(_text),
                args=draw(st.lists(args, max_size=3).map(tuple)),
                kwargs=draw(st.lists(st.tuples(_text, args), max_size=2).map(tuple)),
                out=draw(specs),
            )
        )
    results = _args(len(arguments) + len(rows))
    drawn = draw(st.lists(results, min_size=n_results, max_size=n_results))
    return Body(arguments=arguments, rows=tuple(rows), results=tuple(drawn))


@st.composite
def _templates(draw: st.DrawFn) -> Template:
    inputs = draw(st.lists(_specs, max_size=2))
    n_outputs = draw(st.integers(0, 2))
    arguments = (*inputs, *draw(st.lists(_fixed, max_size=3)))
    axes = [
        draw(st.integers(0, len(s.shape) - 1) | st.none())
        if isinstance(s, TensorSpec) and s.shape
        else None
        for s in inputs
    ]
    return Template(
        n_inputs=len(inputs),
        body=draw(_bodies(arguments, n_outputs, _specs)),
        symbols=(Symbol("s0", draw(st.integers(0, 9)), draw(st.none() | st.integers(9, 99))),),
        constraints=draw(st.sampled_from([(), ("s0 >= 2", "Ne(s0, 7)")])),
        input_axes=tuple(axes),
        output_axes=(None,) * n_outputs,
        rows=draw(st.sampled_from(RowsKind)),
        bound=draw(st.lists(st.tuples(_text, _text), max_size=2).map(tuple)),
    )


@st.composite
def _recipes(draw: st.DrawFn, n_weights: int) -> Recipe:
    raw = tuple(draw(st.lists(_fixed, max_size=3)))
    guard = st.builds(
        Guard,
        predicate=st.sampled_from(Predicate),
        operand=st.none() | st.floats(allow_nan=False),
        text=_text,
    )
    guards = tuple(draw(st.lists(guard, max_size=2)))
    names = tuple(draw(st.lists(_text, min_size=len(raw), max_size=len(raw))))
    return Recipe(
        names=names,
        aliases=tuple((draw(_text), n) for n in names[:1]),
        unused=tuple(names[1:2]),
        body=draw(_bodies(raw, n_weights + len(guards), _fixed | _host)),
        guards=guards,
    )


@st.composite
def _layouts(draw: st.DrawFn, spec: TensorSpec) -> Layout:
    shape = tuple(int(d) for d in spec.shape)
    split = draw(st.sampled_from([(), (1, *shape)]))
    if draw(st.booleans()):
        return plain_layout(shape)
    order = tuple(draw(st.permutations(range(len(split or shape)))))
    first, second = sorted(draw(st.lists(st.integers(0, len(order)), min_size=2, max_size=2)))
    axes = [(split or shape)[axis] for axis in order]
    return Layout(
        kind=LayoutKind.PANELS,
        order=order,
        groups=math.prod(axes[:first]),
        k=math.prod(axes[first:second]),
        n=math.prod(axes[second:]),
        nr=draw(st.integers(1, 5)),
        split=split,
        stored=draw(st.sampled_from([None, "bfloat16"])) if spec.dtype == "float32" else None,
    )


@st.composite
def plans(draw: st.DrawFn) -> PlanData:
    """Any plan that keeps the rules, down to odd names, empty weights and unused parts."""
    templates = {t.key: t for t in draw(st.lists(_templates(), max_size=2))}
    weights: dict[str, Blob] = {}
    forms: dict[str, Form] = {}
    members: dict[str, Member] = {}
    for key, template in templates.items():
        recipe = draw(_recipes(len(template.weights)))
        form_key = hashlib.sha256(repr((key, recipe)).encode("utf-8", "replace")).hexdigest()
        forms[form_key] = Form(template=key, recipe=recipe)
        for name in draw(st.lists(_text, max_size=2, unique=True)):
            keys = []
            for spec in template.weights:
                assert isinstance(spec, TensorSpec)
                layout = draw(_layouts(spec))
                n = packed_elements(layout) * itemsize_bytes(stored_dtype(layout, spec.dtype))
                data = draw(st.binary(min_size=n, max_size=n))
                keys.append(add_blob(weights, spec, data, layout))
            members[name] = Member(
                input_names=tuple(f"i{i}" for i in range(template.n_inputs)),
                output_names=tuple(f"o{i}" for i in range(len(template.body.results))),
                variants=(Variant(form=form_key, weights=tuple(keys)),),
                weight_names=recipe.names,
                notes=draw(_names),
            )
    return PlanData(
        templates=templates,
        forms=forms,
        structures={k: Structure(forms=tuple(forms), notes=(k,)) for k in draw(_names)},
        members=members,
        weights=weights,
        executor=draw(st.sampled_from(Executor)),
        threads=draw(st.none() | st.integers(1, 64)),
        weight_storage=draw(st.none() | st.sampled_from(WeightStorage)),
    )
