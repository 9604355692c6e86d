"""Apply a table of rules to a program until none matches.

A rule is a function of one node: it looks, decides, and gives the node that takes its place, or
says why not. Whatever it emitted and does not use is swept away again.
"""

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import torch
from torch import fx

from fusec.ir.errors import VerifyError
from fusec.ir.template import Guard, Predicate
from fusec.passes.canonicalise.schema import spell
from fusec.passes.program import Program, emit, fork, on_fakes
from fusec.passes.report import PassReport, Reason, Refusal, Rewrite
from fusec.passes.verify import agree

__all__ = ["Edit", "No", "Rule", "rewrite"]

_ROUNDS = 200
"""Rewrites per node of the graph after which rules are taken to undo each other."""


@dataclass(frozen=True, slots=True)
class No:
    """A near-match refused, with the reason."""

    reason: Reason
    detail: str


Answer: TypeAlias = "fx.Node | No | None"


@dataclass(frozen=True, slots=True)
class Rule:
    """One rewrite: `targets` are the operators whose nodes it is shown."""

    name: str
    targets: tuple[Callable[..., object], ...]
    apply: Callable[["Edit", fx.Node], Answer]


class Edit:
    """A program being edited by one pass: emits nodes, knows the weight side, keeps guards."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.graph: fx.Graph = program.graph.graph
        self.fresh: list[fx.Node] = []
        self.guards: list[tuple[fx.Node, Guard]] = []
        self._weights = set(program.weight_nodes)
        self._names = dict(zip(program.weight_nodes, program.weights, strict=True))
        self._is_weight: dict[fx.Node, bool] = {}
        self._is_free: dict[fx.Node, bool] = {}
        self._values: dict[fx.Node, torch.Tensor] = {}
        for node in self.graph.nodes:
            self._learn(node)

    def _learn(self, node: fx.Node) -> None:
        if node.op != "call_function":
            self._is_weight[node] = node in self._weights
            self._is_free[node] = False
            return
        operands = node.all_input_nodes
        static = is_static(node.meta.get("val"))
        bound = static and all(self._is_weight[n] or self._is_free[n] for n in operands)
        self._is_free[node] = static and all(self._is_free[n] for n in operands)
        self._is_weight[node] = bound and not self._is_free[node]

    def emit(self, target: Any, /, *args: object, **kwargs: object) -> fx.Node:
        """Add a call before the node being looked at, in its one spelling."""
        node = emit(self.graph, target, *args, **kwargs)
        node.args, node.kwargs = spell(target, node.args, node.kwargs, node.meta["val"])
        self._learn(node)
        self.fresh.append(node)
        return node

    def emit_reshape(self, x: fx.Node, sizes: list[Any], shape: Sequence[Any]) -> fx.Node:
        """Add a reshape whose result's extents are known; proving them again can take seconds."""
        node = self.graph.call_function(torch.ops.aten.reshape.default, (x, sizes))
        with on_fakes(self.graph):
            node.meta["val"] = x.meta["val"].new_empty(tuple(shape))
        self._learn(node)
        self.fresh.append(node)
        return node

    def is_weight(self, value: object) -> bool:
        """Tell whether a value depends on weights (at least one) and literals only."""
        return isinstance(value, fx.Node) and self._is_weight[value]

    def is_constant(self, value: object) -> bool:
        """Tell whether a value is a weight, or made of literals only."""
        return isinstance(value, fx.Node) and (self._is_weight[value] or self._is_free[value])

    def is_free(self, value: object) -> bool:
        """Tell whether a value is made of literals only: the same for every member."""
        return isinstance(value, fx.Node) and self._is_free[value]

    def weight_name(self, value: object) -> str | None:
        """Give the name of a raw weight; None for anything else."""
        return self._names.get(value) if isinstance(value, fx.Node) else None

    def value(self, node: fx.Node) -> torch.Tensor:
        """Compute a weight-side value. Cost: runs its expression; use for small ones."""
        if node not in self._values:
            if node in self._weights:
                self._values[node] = self.program.weights[self._names[node]].detach()
            else:
                assert callable(node.target)
                args = fx.map_arg(node.args, self.value)
                kwargs = fx.map_arg(node.kwargs, self.value)
                with torch.no_grad():
                    self._values[node] = node.target(*args, **kwargs)
        return self._values[node]

    def guard(self, node: fx.Node, predicate: Predicate, operand: float | None, text: str) -> None:
        """Promise something about a weight's value; `text` follows the raw weight's name."""
        if self.is_free(node):
            return
        names = ", ".join(sorted(self._sources(node)))
        record = Guard(predicate=predicate, operand=operand, text=f"{names} {text}")
        if all(known != node or g.predicate != predicate for known, g in self.guards):
            self.guards.append((node, record))

    def _sources(self, node: fx.Node) -> set[str]:
        if node in self._weights:
            return {self._names[node]}
        return {name for operand in node.all_input_nodes for name in self._sources(operand)}


def is_static(value: object) -> bool:
    """Tell whether a traced value's extents are all fixed."""
    if isinstance(value, torch.Tensor):
        return all(isinstance(d, int) for d in value.shape)
    if isinstance(value, tuple | list):
        return all(is_static(v) for v in value)
    return not isinstance(value, torch.SymInt | torch.SymFloat | torch.SymBool)


def rewrite(program: Program, *, name: str, rules: Sequence[Rule]) -> tuple[Program, PassReport]:
    """Apply rules to a copy of a program until none matches; dead nodes are dropped.

    Args:
        program: left as it is.
        name: of the pass, for the report.
        rules: tried in this order at each node.

    Raises:
        VerifyError: rules undo each other.
    Cost: linear in nodes and rewrites.
    """
    program = fork(program)
    worker = _Worker(Edit(program), _by_target(rules))
    worker.run(name)
    guards = worker.edit.guards
    if guards:
        _append_guards(program, [node for node, _ in guards])
    program.graph.recompile()
    done = replace(program, guards=(*program.guards, *(guard for _, guard in guards)))
    return done, PassReport(name, tuple(worker.rewrites), tuple(dict.fromkeys(worker.refusals)))


def _by_target(rules: Iterable[Rule]) -> dict[object, list[Rule]]:
    table: dict[object, list[Rule]] = {}
    for rule in rules:
        for target in rule.targets:
            table.setdefault(target, []).append(rule)
    return table


def _append_guards(program: Program, operands: list[fx.Node]) -> None:
    output = program.graph.graph.output_node()
    output.args = ((*output.args[0], *operands),)  # type: ignore[misc]


def _misfit(node: fx.Node, answer: fx.Node) -> No:
    was, new = node.meta["val"], answer.meta["val"]
    return No(Reason.MISFIT, f"{node.format_node()} gives {was}, {answer.format_node()} {new}")


class _Worker:
    """The queue of nodes to look at."""

    def __init__(self, edit: Edit, table: Mapping[object, list[Rule]]) -> None:
        self.edit = edit
        self.table = table
        self.rewrites: list[Rewrite] = []
        self.refusals: list[Refusal] = []
        self._queue: deque[fx.Node] = deque()
        self._queued: set[fx.Node] = set()

    def run(self, name: str) -> None:
        for node in reversed(list(self.edit.graph.nodes)):
            self._sweep(node)
        nodes = list(self.edit.graph.nodes)
        self._push(nodes)
        limit = _ROUNDS * len(nodes) + _ROUNDS
        while self._queue:
            node = self._queue.popleft()
            self._queued.discard(node)
            if not node._erased:
                self._visit(node)
            if len(self.rewrites) > limit:
                last = self.rewrites[-1]
                raise VerifyError(f"pass {name} does not end; last rule {last.rule}: {last}")

    def _push(self, nodes: Iterable[fx.Node]) -> None:
        for node in nodes:
            if node.target in self.table and node not in self._queued:
                self._queue.append(node)
                self._queued.add(node)

    def _visit(self, node: fx.Node) -> None:
        for rule in self.table.get(node.target, ()):
            self.edit.fresh.clear()
            promised = len(self.edit.guards)
            with self.edit.graph.inserting_before(node):
                answer = rule.apply(self.edit, node)
            if isinstance(answer, fx.Node) and not agree(answer.meta["val"], node.meta["val"]):
                answer = _misfit(node, answer)
            if isinstance(answer, No):
                refused = Refusal(rule.name, node.name, answer.reason, answer.detail)
                self.refusals.append(refused)
            if isinstance(answer, fx.Node) and answer is not node:
                self._replace(rule, node, answer)
                return
            del self.edit.guards[promised:]
            for leftover in reversed(self.edit.fresh):
                self._sweep(leftover, look_again=False)

    def _replace(self, rule: Rule, node: fx.Node, new: fx.Node) -> None:
        users = list(node.users)
        self.rewrites.append(Rewrite(rule.name, node.name, new.name))
        node.replace_all_uses_with(new)
        self.edit.guards = [(new if n is node else n, g) for n, g in self.edit.guards]
        fresh = list(self.edit.fresh)
        self._sweep(node)
        for leftover in reversed(fresh):
            self._sweep(leftover)
        self._push(n for n in (*fresh, new) if not n._erased)
        self._push(n for n in users if not n._erased)

    def _sweep(self, node: fx.Node, *, look_again: bool = True) -> None:
        """Erase a node nobody uses, and what only it used; its neighbours may match now."""
        stack = [node]
        while stack:
            dead = stack.pop()
            if dead._erased or dead.users or dead.op not in ("call_function", "get_attr"):
                continue
            if any(dead is kept for kept, _ in self.edit.guards):
                continue
            operands = dead.all_input_nodes
            self.edit.graph.erase_node(dead)
            stack.extend(operands)
            if not look_again:
                continue
            self._push(n for n in operands if not n._erased)
            self._push(u for n in operands if not n._erased for u in n.users)


def the(value: Any) -> Any:
    """Give a node's traced value, or the literal itself."""
    return value.meta["val"] if isinstance(value, fx.Node) else value
