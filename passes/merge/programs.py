"""Different models as one program: weights stacked, inputs and outputs stacked or by name."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import fx

from fusec.ir.errors import ConfigError
from fusec.ir.template import RowsKind
from fusec.passes.merge.align import apart, steps
from fusec.passes.merge.builder import Ground
from fusec.passes.merge.conv_cost import ConvCost
from fusec.passes.merge.engine import Engine
from fusec.passes.merge.hoist import hoist, prepared, settle
from fusec.passes.merge.leaves import Leaves, Weight, stack
from fusec.passes.merge.numbering import Numbers
from fusec.passes.merge.ports import Port, Ports
from fusec.passes.merge.report import MergeReport
from fusec.passes.merge.symbols import Fakes, join_symbols
from fusec.passes.merge.values import propagate
from fusec.passes.program import Program

__all__ = ["merge"]


def merge(
    programs: Sequence[Program],
    *,
    io: Literal["stacked", "named"],
    names: Sequence[str],
    shared_inputs: bool = False,
    conv_cost: ConvCost | None = None,
) -> tuple[Program, MergeReport]:
    """Merge programs of different weights, and of differing ends, into one.

    Calls of the same form run as one call. What depends on nothing that differs between members is
    computed once: with shared inputs and equal backbone weights there is one backbone. Members are
    merged up to where they differ, and behind it among those that still agree.

    Args:
        programs: the members.
        io: "stacked": an input of all members is one input [n, *shape], and so are outputs of one
            shape; "named": an input "member.input" and an output "member.output" for each.
        names: one per member.
        shared_inputs: all members are fed the same tensors; inputs have no axis in front then.
        conv_cost: which form a convolution takes.

    Returns:
        The merged program, its weights stacked and laid out as its operators read them, and the
        report. Members' guards are not in it: their weights are fixed here.

    Raises:
        ConfigError: no member, or names that are not unique, or an unknown `io`.
        MergeError: members that cannot share inputs.
        UnsupportedError: an output that is no tensor.
    """
    _check(programs, names, io)
    members = [settle(program) for program in programs]
    extents = join_symbols(members)
    numbers = Numbers()
    for program, symbols in zip(members, extents.names, strict=True):
        numbers.add(program, shared_inputs=shared_inputs, symbols=symbols)
    ground = Ground(fx.Graph(), conv_cost or ConvCost())
    leaves = Leaves(ground.graph, numbers)
    engine = Engine(ground, torch.nn.Module(), leaves)
    ports = Ports(
        members=members,
        names=names,
        numbers=numbers,
        extents=extents,
        fakes=Fakes(extents),
        leaves=leaves,
        places=dict(leaves.places),
    )
    stacked = io == "stacked"
    if shared_inputs:
        inputs = ports.shared_inputs()
    else:
        inputs = ports.stacked_inputs() if stacked else ports.named_inputs()
    _run(engine, ports)
    outputs = ports.stacked_outputs() if stacked else ports.named_outputs()
    merged = _finish(engine, ports, inputs, outputs)
    report = MergeReport(
        members=len(programs),
        uses=tuple(engine.uses),
        apart=apart(numbers, names),
    )
    return merged, report


def _check(programs: Sequence[Program], names: Sequence[str], io: str) -> None:
    if not programs:
        raise ConfigError("merging needs at least one program")
    if len(names) != len(programs) or len(set(names)) != len(names):
        raise ConfigError(f"{len(programs)} programs need as many different names, got {names}")
    if io not in ("stacked", "named"):
        raise ConfigError(f"io is {io!r}; it must be 'stacked' or 'named'")


def _run(engine: Engine, ports: Ports) -> None:
    """Merge all calls that the outputs need."""
    numbers, places = ports.numbers, ports.places
    results = [
        numbers.values[member][output]
        for member, program in enumerate(ports.members)
        for output in program.outputs
        if isinstance(output, fx.Node)
    ]
    for step in steps(numbers, results):
        node = numbers.sources[step.numbers[0]].node
        if node.op == "get_attr":
            continue
        rows = [numbers.sources[number].operands for number in step.numbers]
        # A subgraph of control flow has no place; the engine copies it.
        bundles = [
            tuple(places[n] for n in column) if column[0] in places else ()
            for column in zip(*rows, strict=True)
        ]
        only = step.members == 1 < len(ports.members)
        given = engine.run(node, bundles, len(rows), alone=only)
        for i, number in enumerate(step.numbers):
            places[number] = given[i] if len(given) > 1 else given[0]


def _finish(
    engine: Engine, ports: Ports, inputs: Sequence[Port], outputs: Sequence[Port]
) -> Program:
    """Close the graph, stack the weights, and prepare them."""
    graph = engine.ground.graph
    graph.output(tuple(port.node for port in outputs))
    graph.eliminate_dead_code()
    stacked: dict[str, torch.Tensor] = {}
    for weight in _used(graph, ports.leaves.weights):
        stacked[weight.name] = _tensor(ports.numbers, weight)
        weight.node.meta["val"] = ports.fakes.tensor(stacked[weight.name], 0, ())
    module = fx.GraphModule(engine.root, graph)
    propagate(module, ports.fakes.mode)
    prepare, main = hoist(module, len(inputs))
    kinds = {program.rows for program in ports.members}
    return Program(
        graph=main,
        input_names=tuple(port.name for port in inputs),
        output_names=tuple(port.name for port in outputs),
        weights=prepared(prepare, stacked),
        aliases=(),
        unused=(),
        symbols=ports.extents.symbols,
        symbol_names=ports.fakes.names,
        constraints=ports.extents.constraints,
        input_axes=tuple(port.axis for port in inputs),
        output_axes=tuple(port.axis for port in outputs),
        rows=kinds.pop() if len(kinds) == 1 else RowsKind.WHOLE_REQUEST,
        bound=tuple(
            (f"{name}.{key}", value)
            for name, program in zip(ports.names, ports.members, strict=True)
            for key, value in program.bound
        ),
        guards=(),
    )


def _used(graph: fx.Graph, weights: Sequence[Weight]) -> list[Weight]:
    kept = []
    for weight in weights:
        if weight.node.users:
            kept.append(weight)
        else:
            graph.erase_node(weight.node)
    return kept


def _tensor(numbers: Numbers, weight: Weight) -> torch.Tensor:
    tensors = [numbers.weights[number][1] for number in weight.numbers]
    return stack(tensors) if weight.grouped else tensors[0].detach()
