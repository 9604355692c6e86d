"""The machinery of canonicalisation: one spelling of arguments, the rewriter, the verifier."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
import torch
from fusec_testing.canonical import Function, checked
from fusec_testing.programs import program_from

from fusec.ir.errors import VerifyError
from fusec.ir.template import Predicate
from fusec.passes.canonicalise import PIPELINE, canonicalise
from fusec.passes.canonicalise.algebra import expand
from fusec.passes.canonicalise.facts import close
from fusec.passes.canonicalise.rewrite import Edit, No, Rule, rewrite
from fusec.passes.canonicalise.schema import rounded, spell
from fusec.passes.program import emit, fork
from fusec.passes.report import PassReport, Reason
from fusec.passes.text import graph_text
from fusec.passes.verify import verify

aten = torch.ops.aten


@pytest.fixture
def program():
    """Return relu(x * w) + 1."""
    return program_from(
        Function(lambda x, w: (x * w).relu() + 1, torch.randn(4)), torch.randn(2, 4)
    )


def node_of(program, target):
    (node,) = program.graph.graph.find_nodes(op="call_function", target=target)
    return node


def test_defaults_are_dropped_and_axes_counted_from_the_front(program):
    relu = node_of(program, aten.relu.default)
    assert spell(aten.softmax.int, (relu, -1), {}) == ((relu, 1), {})
    assert spell(aten.conv2d.default, (relu, relu, None, [1, 1], [0], 1), {}) == ((relu, relu), {})
    args, kwargs = spell(aten.add.Tensor, (relu,), {"other": 2, "alpha": 1})
    assert (args, kwargs) == ((relu, 2.0), {})
    assert isinstance(args[1], float)


@pytest.mark.parametrize(
    ("function", "shape"),
    [
        (torch.diag_embed, (2, 5)),
        (lambda x: torch.diag_embed(x, 1, -3, -1), (2, 5)),
        (lambda x: torch.cosine_similarity(x, torch.ones(2, 1, 3), dim=-1), (2, 3)),
        (lambda x: torch.cat([torch.empty(0), x], dim=-1), (2, 3)),
        (lambda x: torch.arange(0, 0.6, 0.2) + x, (2, 3)),
        (lambda x: x.sum().mean() + x.sum().sum(), (2, 3)),
    ],
    ids=["diagonal", "diagonal, axes", "broadcast", "empty first", "steps of 0.2", "one number"],
)
def test_axes_and_steps_count_as_torch_counts_them(function, shape):
    checked(Function(function), torch.randn(shape))


def test_what_changes_nothing_is_dropped(program):
    relu = node_of(program, aten.relu.default)
    given = {"dtype": torch.float64, "non_blocking": True, "memory_format": torch.channels_last}
    assert spell(aten._to_copy.default, (relu,), given) == ((relu,), {"dtype": torch.float64})


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_numbers_are_rounded_to_what_torch_computes_in(dtype):
    x = torch.ones((), dtype=dtype)
    assert torch.equal(x * 0.1, x * rounded(0.1, dtype))
    assert rounded(0.1, dtype) == torch.tensor(0.1, dtype=torch.float32).item()
    assert rounded(0.1, torch.float64) == 0.1


def test_constants_agree_within_the_precision_of_their_dtype():
    assert close(0.70710678, 0.5**0.5, torch.float32)
    assert not close(0.7071, 0.5**0.5, torch.float32)
    assert not close(0.70710678, 0.5**0.5, torch.float64)
    assert close(0.7071, 0.5**0.5, torch.float16)


def double_relu(edit, node):
    return edit.emit(aten.relu.default, edit.emit(aten.relu.default, node.args[0]))


def test_a_pass_leaves_its_program_alone_and_reports_what_it_did(program):
    before = graph_text(program)

    def to_silu(edit, node):
        return edit.emit(aten.silu.default, node.args[0])

    rules = (Rule("relu_to_silu", (aten.relu.default,), to_silu),)
    after, report = rewrite(program, name="test", rules=rules)
    assert graph_text(program) == before
    assert "silu" in graph_text(after)
    assert [(r.rule, r.before) for r in report.rewrites] == [("relu_to_silu", "relu")]
    assert report.changed
    unchanged, report = rewrite(after, name="test", rules=rules)
    assert graph_text(unchanged) == graph_text(after)
    assert not report.changed


def test_refusals_keep_their_reason_and_what_was_emitted_goes(program):
    def refuse(edit, node):
        edit.emit(aten.exp.default, node)
        return No(Reason.VALUE, "1 is not 2")

    after, report = rewrite(program, name="t", rules=(Rule("r", (aten.relu.default,), refuse),))
    assert graph_text(after) == graph_text(program)
    (refusal,) = report.refusals
    assert (refusal.rule, refusal.node, refusal.reason, refusal.detail) == (
        "r", "relu", Reason.VALUE, "1 is not 2",
    )  # fmt: skip


def test_a_promise_of_a_rule_that_gives_up_is_taken_back(program):
    def promise(answer):
        def rule(edit, node):
            weight = edit.program.weight_nodes[0]
            edit.guard(weight, Predicate.EQUALS, 1.0, "is 1")
            return answer(edit, node)

        return rule

    gives_up = Rule("r", (aten.relu.default,), promise(lambda edit, node: None))
    holds = Rule(
        "r", (aten.relu.default,), promise(lambda e, n: e.emit(aten.silu.default, n.args[0]))
    )
    assert rewrite(program, name="t", rules=(gives_up,))[0].guards == ()
    after, _ = rewrite(program, name="t", rules=(holds,))
    assert [g.text for g in after.guards] == ["weights.0 is 1"]
    assert after.results[1] is after.weight_nodes[0]
    verify(after, program, "t")


def test_rules_that_undo_each_other_are_a_bug(program):
    rules = (Rule("grow", (aten.relu.default,), double_relu),)
    with pytest.raises(VerifyError, match=r"pass t does not end; last rule grow"):
        rewrite(program, name="t", rules=rules)


def test_a_rule_that_changes_a_shape_is_a_bug(program):
    def flatten(edit, node):
        return edit.emit(aten.reshape.default, node.args[0], [8])

    rules = (Rule("flatten", (aten.relu.default,), flatten),)
    after, report = rewrite(program, name="t", rules=rules)
    assert graph_text(after) == graph_text(program)
    assert [r.reason for r in report.refusals] == [Reason.MISFIT]
    run = partial(rewrite, name="t", rules=rules)
    canonicalise(program, passes=(("t", run),))
    with pytest.raises(VerifyError, match=r"pass t, rule flatten: .*relu"):
        canonicalise(program, passes=(("t", run),), check=True)


def broken_dead(program):
    program = fork(program)
    relu = node_of(program, aten.relu.default)
    with program.graph.graph.inserting_after(relu):
        emit(program.graph.graph, aten.exp.default, relu)
    return program


def broken_meta(program):
    program = fork(program)
    node = node_of(program, aten.relu.default)
    node.meta = {"val": program.inputs[0].meta["val"].double()}
    return program


def broken_arity(program):
    program = fork(program)
    output = program.graph.graph.output_node()
    output.args = ((*output.args[0], program.inputs[0]),)
    return program


def broken_output(program):
    program = fork(program)
    program.graph.graph.output_node().args = ((program.weight_nodes[0],),)
    node = node_of(program, aten.add.Tensor)
    for dead in (node, node.args[0], node.args[0].args[0]):
        program.graph.graph.erase_node(dead)
    return program


@pytest.mark.parametrize(
    "broken, message",
    [
        (broken_dead, "left dead node"),
        (broken_meta, "running it on fake tensors gives"),
        (broken_arity, "returns 2 values, wanted 1 outputs"),
        (broken_output, "changed output 0"),
    ],
)
def test_the_verifier_sees_what_lint_does_not(program, broken, message):
    bad = broken(program)
    bad.graph.graph.lint()
    with pytest.raises(VerifyError, match=message):
        verify(bad, program, "test")


def test_the_verifier_sees_changed_placeholders(program):
    bad = fork(program)
    bad.weight_nodes[0].name = "other"
    with pytest.raises(VerifyError, match="changed the placeholders"):
        verify(bad, program, "test")


def test_a_failing_check_names_the_pass(program):
    def bad(program):
        return broken_dead(program), PassReport("bad", (), ())

    with pytest.raises(VerifyError, match="pass bad left dead node"):
        canonicalise(program, passes=(*PIPELINE, ("bad", bad)), check=True)


def test_observers_see_each_pass_in_order(program):
    seen = []
    canonicalise(program, observe=lambda name, after, report: seen.append((name, report.name)))
    assert [name for name, _ in seen] == [name for name, _ in PIPELINE]


def test_rule_names_are_unique_within_a_pass():
    tables = [run.keywords["rules"] for _, run in PIPELINE if isinstance(run, partial)]
    assert len(tables) >= 4
    for rules in tables:
        names = [rule.name for rule in rules]
        assert len(names) == len(set(names))


def expanded(function, *shapes):
    program = program_from(Function(function), *(torch.rand(s) + 1 for s in shapes))
    program, _ = canonicalise(program, passes=PIPELINE[:3])
    (root,) = program.outputs
    names = {node: f"x{i}" for i, node in enumerate(program.inputs)}
    terms = expand(root, lambda n: n in names)
    return {
        tuple(sorted((names.get(n, "?"), p) for n, p in t.powers)): t.number for t in terms or []
    }


def test_expansion_of_sums_and_products():
    assert expanded(lambda a, b: (a - b) * (a + b) / 2, (3,), (3,)) == {
        (("x0", 2.0),): 0.5, (("x1", 2.0),): -0.5,
    }  # fmt: skip
    assert expanded(lambda a, b: 1 - a * torch.rsqrt(b), (3,), (3,)) == {
        (): 1.0, (("x0", 1.0), ("x1", -0.5)): -1.0,
    }  # fmt: skip


def test_expansion_does_not_cancel_what_may_be_zero():
    assert expanded(lambda a, b: a / a * b, (3,), (3,)) == {(("x0", 0.0), ("x1", 1.0)): 1.0}


def test_a_root_of_a_square_is_not_taken():
    assert expanded(lambda a: torch.sqrt(a * a), (3,)) == {(("?", 1.0),): 1.0}


def test_the_weight_side_is_what_depends_on_weights_only(program):
    edit = Edit(program)
    assert all(edit.is_weight(n) for n in program.weight_nodes)
    assert not any(edit.is_constant(n) for n in program.inputs)
    assert not edit.is_constant(node_of(program, aten.mul.Tensor))


def test_passes_share_weights_and_copy_the_graph(program):
    after, _ = canonicalise(program)
    assert after.weights is program.weights
    assert after.graph is not program.graph
    assert replace(after, graph=program.graph) is not after
