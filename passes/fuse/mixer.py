"""Join pointwise programs: equal operands are loaded once, equal steps are done once."""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from fusec.ir.extents import Extent
from fusec.ir.stage import PointProgram, PointStep, View

__all__ = ["Mixer", "Node"]

Node: TypeAlias = int
"""A step's number, or ~number of a leaf."""


class Mixer:
    """Leaves and steps of a program in the making."""

    def __init__(self) -> None:
        self.leaves: list[View | None] = []
        self.steps: list[PointStep] = []
        """Their operands are nodes."""
        self._known: dict[object, Node] = {}

    def leaf(self, view: View | None) -> Node:
        """Load an operand; None is what the stage itself computed."""
        node = self._known.get(view)
        if node is None:
            self.leaves.append(view)
            node = self._known[view] = ~(len(self.leaves) - 1)
        return node

    def add(self, program: PointProgram, operands: Sequence[Node]) -> Sequence[Node]:
        """Append a program's steps; give the node of each of its registers."""
        nodes = list(operands)
        for step in program.steps:
            nodes.append(self._step(step, tuple(nodes[a] for a in step.args)))
        return nodes

    def dtype(self, node: Node, raw: str) -> str:
        """Give a node's dtype; `raw` is that of the stage's own result."""
        if node >= 0:
            return self.steps[node].dtype
        leaf = self.leaves[~node]
        return raw if leaf is None else leaf.dtype

    def finish(
        self, shape: Sequence[Extent], results: Sequence[Node], *, epilogue: bool
    ) -> PointProgram:
        """Make the program that computes these nodes, without what they do not need."""
        needed: set[Node] = set(results)
        for j in reversed(range(len(self.steps))):
            if j in needed:
                needed.update(self.steps[j].args)
        leaves = [i for i in range(len(self.leaves)) if ~i in needed or self.leaves[i] is None]
        leaves.sort(key=lambda i: self.leaves[i] is not None)
        steps = [j for j in range(len(self.steps)) if j in needed]
        operands = [self.leaves[i] for i in leaves]
        number: Mapping[Node, int] = {
            **{~i: at for at, i in enumerate(leaves)},
            **{j: len(leaves) + at for at, j in enumerate(steps)},
        }
        assert epilogue == (bool(operands) and operands[0] is None)
        return PointProgram(
            shape=tuple(shape),
            operands=tuple(operands),
            steps=tuple(self._renumbered(self.steps[j], number) for j in steps),
            results=tuple(number[r] for r in results),
        )

    def _step(self, step: PointStep, args: tuple[Node, ...]) -> Node:
        # 0.0 and -0.0 are equal and are not the same, nor are 1 and True.
        key = (step.op, args, step.dtype, type(step.value), repr(step.value))
        node = self._known.get(key)
        if node is None:
            self.steps.append(PointStep(step.op, args, step.dtype, step.value))
            node = self._known[key] = len(self.steps) - 1
        return node

    @staticmethod
    def _renumbered(step: PointStep, number: Mapping[Node, int]) -> PointStep:
        return PointStep(step.op, tuple(number[a] for a in step.args), step.dtype, step.value)
