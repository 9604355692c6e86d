"""One template run n times as one graph, without a look at any weight's value."""

from collections.abc import Collection

import torch
from torch import fx

from fusec.ir.errors import ConfigError, UnsupportedError
from fusec.passes.merge.builder import Ground
from fusec.passes.merge.conv_cost import ConvCost
from fusec.passes.merge.engine import Engine, operand_nodes
from fusec.passes.merge.gather import Gather
from fusec.passes.merge.operand import Bundle, Place, Slot
from fusec.passes.merge.report import MergeReport
from fusec.passes.merge.values import propagate, stacked_value
from fusec.passes.program import Program

__all__ = ["merge_uniform"]

aten = torch.ops.aten


def merge_uniform(
    program: Program,
    n: int,
    *,
    shared_inputs: Collection[int] = frozenset(),
    shared_weights: Collection[int] = frozenset(),
    conv_cost: ConvCost | None = None,
    values: bool = False,
) -> tuple[fx.GraphModule, MergeReport]:
    """Merge n instances of one program, weights left as arguments.

    Args:
        program: the template; its weights are not read.
        n: how many instances, at least 1.
        shared_inputs: numbers of inputs that all instances are fed alike.
        shared_weights: numbers of weights that are the same in all instances.
        conv_cost: which form a convolution takes.
        values: compute the fake value of every node of the result. Takes longer than the merge.

    Returns:
        A graph and its report. Placeholders are the program's inputs, then its weights, each
        [n, *shape] unless shared; results are the program's outputs, each [n, *shape].

    Raises:
        ConfigError: n is below 1, or a number names no input or weight.
        UnsupportedError: an output is not a tensor.
    """
    _check(program, n, shared_inputs, shared_weights)
    ground = Ground(fx.Graph(), conv_cost or ConvCost())
    root = torch.nn.Module()
    engine = Engine(ground, root, Gather(ground.graph))
    known: dict[fx.Node, Bundle] = {}
    first_weight = len(program.input_names)
    for i, source in enumerate(program.placeholders):
        number = i - first_weight
        shared = number in shared_weights if number >= 0 else i in shared_inputs
        node = ground.graph.placeholder(source.name)
        if values:
            fake = source.meta["val"]
            node.meta["val"] = fake if shared else stacked_value(fake, n)
        known[source] = _leaf(node, n, shared)
    for source in program.graph.graph.nodes:
        if source.op == "call_function":
            bundles = [known.get(operand, ()) for operand in operand_nodes(source)]
            rows = max((len(bundle) for bundle in bundles), default=1)
            known[source] = engine.run(source, bundles, rows)
    results = [_result(engine, known, output, n) for output in program.outputs]
    ground.graph.output(tuple(results))
    ground.graph.eliminate_dead_code()
    merged = fx.GraphModule(root, ground.graph)
    if values:
        propagate(merged)
    return merged, MergeReport(members=n, uses=tuple(engine.uses), apart=())


def _check(
    program: Program, n: int, shared_inputs: Collection[int], shared_weights: Collection[int]
) -> None:
    if n < 1:
        raise ConfigError(f"merging needs at least one instance, got {n}")
    for what, given, count in (
        ("input", shared_inputs, len(program.input_names)),
        ("weight", shared_weights, len(program.weight_nodes)),
    ):
        wrong = sorted(number for number in given if not 0 <= number < count)
        if wrong:
            raise ConfigError(f"shared {what} {wrong[0]} is none of the program's {count}")


def _leaf(node: fx.Node, n: int, shared: bool) -> Bundle:
    if shared:
        return (Place(Slot(node, 1, False), 0),)
    slot = Slot(node, n, True)
    return tuple(Place(slot, row) for row in range(n))


def _result(engine: Engine, known: dict[fx.Node, Bundle], output: object, n: int) -> fx.Node:
    if not isinstance(output, fx.Node) or not isinstance(output.meta["val"], torch.Tensor):
        raise UnsupportedError(f"output {output} is no tensor; merge without it")
    node, grouped = engine.gather(known[output])
    if grouped:
        return node
    rank = output.meta["val"].dim()
    graph = engine.ground.graph
    lifted = graph.call_function(aten.unsqueeze.default, (node, 0))
    return graph.call_function(aten.expand.default, (lifted, [n] + [-1] * rank))
