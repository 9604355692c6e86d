"""Different models as one program: weights stacked, inputs and outputs stacked or by name."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

import torch
from torch import fx

from fusec.ir.errors import ConfigError, MergeError, UnsupportedError
from fusec.ir.template import RowsKind
from fusec.passes.merge.align import apart, steps
from fusec.passes.merge.builder import Ground
from fusec.passes.merge.conv_cost import ConvCost
from fusec.passes.merge.engine import Engine
from fusec.passes.merge.hoist import hoist, prepared, settle
from fusec.passes.merge.leaves import Leaves, Weight, stack
from fusec.passes.merge.numbering import Numbers, spec_text
from fusec.passes.merge.operand import Bundle, Place, Slot
from fusec.passes.merge.report import MergeReport
from fusec.passes.merge.symbols import Extents, Fakes, join_symbols
from fusec.passes.merge.values import propagate
from fusec.passes.program import Program

__all__ = ["merge"]

aten = torch.ops.aten


class Io(StrEnum):
    """How a merged program is called."""

    STACKED = "stacked"
    NAMED = "named"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Port:
    """An input or output of the merged program.

    Attributes:
        name: as the caller sees it.
        node: placeholder or result.
        axis: batch axis, or None.
    """

    name: str
    node: fx.Node
    axis: int | None


class _Merger:
    """State of one merge: the graph that grows, and where members' values are in it."""

    def __init__(
        self, members: Sequence[Program], names: Sequence[str], io: Io, conv_cost: ConvCost
    ) -> None:
        self.members = members
        self.names = names
        self.io = io
        self.extents: Extents = join_symbols(members)
        self.fakes = Fakes(self.extents)
        self.numbers = Numbers()
        self.ground = Ground(fx.Graph(), conv_cost)
        self.root = torch.nn.Module()
        self.places: dict[int, Place] = {}
        self.inputs: list[Port] = []

    def number(self, shared_inputs: bool) -> None:
        """Number all values, then make the placeholders of the inputs."""
        for program, symbols in zip(self.members, self.extents.names, strict=True):
            self.numbers.add(program, shared_inputs=shared_inputs, symbols=symbols)
        self.leaves = Leaves(self.ground.graph, self.numbers)
        self.engine = Engine(self.ground, self.root, self.leaves)
        self.places.update(self.leaves.places)
        if shared_inputs:
            self._shared_inputs()
        elif self.io is Io.STACKED:
            self._stacked_inputs()
        else:
            for member, program in enumerate(self.members):
                for i in range(len(program.input_names)):
                    self._own_input(member, i)

    def _placeholder(self, name: str, member: int, i: int, lead: Sequence[int]) -> fx.Node:
        program = self.members[member]
        node = self.leaves.placeholder(name)
        node.meta["val"] = self.fakes.tensor(program.inputs[i].meta["val"], member, lead)
        axis = program.input_axes[i]
        port = Port(name=name, node=node, axis=axis if axis is None else axis + len(lead))
        self.inputs.append(port)
        return node

    def _place(self, member: int, i: int, place: Place) -> None:
        source = self.members[member].inputs[i]
        self.places[self.numbers.values[member][source]] = place

    def _own_input(self, member: int, i: int) -> None:
        name = f"{self.names[member]}.{self.members[member].input_names[i]}"
        node = self._placeholder(name, member, i, ())
        self._place(member, i, Place(Slot(node, 1, False), 0))

    def _spec(self, member: int, i: int) -> str:
        inputs = self.members[member].inputs
        if i >= len(inputs):
            return ""
        return spec_text(inputs[i].meta["val"], self.extents.names[member])

    def _stacked_inputs(self) -> None:
        count = len(self.members)
        for i in range(max(len(program.input_names) for program in self.members)):
            specs = {self._spec(member, i) for member in range(count)}
            if len(specs) == 1:
                node = self._placeholder(self._common_input(i), 0, i, (count,))
                slot = Slot(node, count, True)
                for member in range(count):
                    self._place(member, i, Place(slot, member))
            else:
                for member in range(count):
                    if i < len(self.members[member].input_names):
                        self._own_input(member, i)

    def _shared_inputs(self) -> None:
        for i in range(max(len(program.input_names) for program in self.members)):
            specs = {self._spec(member, i): member for member in range(len(self.members))}
            if len(specs) != 1:
                (one, first), (other, second) = list(specs.items())[:2]
                raise MergeError(
                    f"members share inputs, but input {i} of {self.names[first]} is "
                    f"{one or 'missing'} and of {self.names[second]} {other or 'missing'}; "
                    "merge without shared inputs"
                )
            node = self._placeholder(self._common_input(i), 0, i, ())
            place = Place(Slot(node, 1, False), 0)
            for member in range(len(self.members)):
                self._place(member, i, place)

    def _common_input(self, i: int) -> str:
        names = [program.input_names[i] for program in self.members]
        return _fresh(names[0], [port.name for port in self.inputs])

    def run(self) -> None:
        """Merge all calls."""
        results = [
            self.numbers.values[member][output]
            for member, program in enumerate(self.members)
            for output in program.outputs
            if isinstance(output, fx.Node)
        ]
        for step in steps(self.numbers, results):
            rows = [self.numbers.sources[number].operands for number in step.numbers]
            bundles = [tuple(self.places[n] for n in column) for column in zip(*rows, strict=True)]
            first = self.numbers.sources[step.numbers[0]].node
            if first.op == "get_attr":
                continue
            given = self.engine.run(
                first, bundles, len(step.numbers), alone=step.members == 1 < len(self.members)
            )
            for i, number in enumerate(step.numbers):
                self.places[number] = given[i] if len(given) > 1 else given[0]

    def outputs(self) -> list[Port]:
        """Make the results."""
        if self.io is Io.NAMED:
            return [
                self._own_output(member, j)
                for member, program in enumerate(self.members)
                for j in range(len(program.output_names))
            ]
        ports: list[Port] = []
        for j in range(max(len(program.output_names) for program in self.members)):
            having = [m for m, p in enumerate(self.members) if j < len(p.output_names)]
            specs = {self._output_spec(member, j) for member in having}
            if len(having) == len(self.members) and len(specs) == 1:
                ports.append(self._stacked_output(j, [port.name for port in ports]))
            else:
                ports += [self._own_output(member, j) for member in having]
        return ports

    def _output(self, member: int, j: int) -> fx.Node:
        output = self.members[member].outputs[j]
        if not isinstance(output, fx.Node) or not isinstance(output.meta["val"], torch.Tensor):
            name = self.members[member].output_names[j]
            raise UnsupportedError(f"output {name} of {self.names[member]} is no tensor")
        return output

    def _output_spec(self, member: int, j: int) -> str:
        return spec_text(self._output(member, j).meta["val"], self.extents.names[member])

    def _output_place(self, member: int, j: int) -> Place:
        return self.places[self.numbers.values[member][self._output(member, j)]]

    def _own_output(self, member: int, j: int) -> Port:
        program = self.members[member]
        name = f"{self.names[member]}.{program.output_names[j]}"
        node = self.leaves.row(self._output_place(member, j))
        return Port(name=name, node=node, axis=program.output_axes[j])

    def _stacked_output(self, j: int, taken: Sequence[str]) -> Port:
        count = len(self.members)
        bundle: Bundle = tuple(self._output_place(member, j) for member in range(count))
        node, grouped = self.leaves(bundle)
        if not grouped:
            rank = self._output(0, j).meta["val"].dim()
            lifted = self.ground.graph.call_function(aten.unsqueeze.default, (node, 0))
            node = self.ground.graph.call_function(
                aten.expand.default, (lifted, [count] + [-1] * rank)
            )
        program = self.members[0]
        axis = program.output_axes[j]
        name = _fresh(program.output_names[j], taken)
        return Port(name=name, node=node, axis=axis if axis is None else axis + 1)


def _fresh(name: str, taken: Sequence[str]) -> str:
    found, count = name, 0
    while found in taken:
        count += 1
        found = f"{name}_{count}"
    return found


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
        The merged program and its report.

    Raises:
        ConfigError: no member, or names that are not unique, or an unknown `io`.
        MergeError: members that cannot share inputs.
        UnsupportedError: an output that is no tensor.
    """
    _check(programs, names, io)
    merger = _Merger(
        [settle(program) for program in programs], names, Io(io), conv_cost or ConvCost()
    )
    merger.number(shared_inputs)
    merger.run()
    outputs = merger.outputs()
    graph = merger.ground.graph
    graph.output(tuple(port.node for port in outputs))
    graph.eliminate_dead_code()
    weights = _used(graph, merger.leaves.weights)
    tensors: dict[str, torch.Tensor] = {}
    for weight in weights:
        tensors[weight.name] = _tensor(merger, weight)
        weight.node.meta["val"] = merger.fakes.tensor(tensors[weight.name], 0, ())
    module = fx.GraphModule(merger.root, graph)
    propagate(module, merger.fakes.mode)
    prepare, main = hoist(module, len(merger.inputs))
    report = MergeReport(
        members=len(programs),
        uses=tuple(merger.engine.uses),
        apart=apart(merger.numbers, names),
        layouts={},
    )
    return _program(merger, main, outputs, prepared(prepare, tensors)), report


def _check(programs: Sequence[Program], names: Sequence[str], io: str) -> None:
    if not programs:
        raise ConfigError("merging needs at least one program")
    if len(names) != len(programs) or len(set(names)) != len(names):
        raise ConfigError(f"{len(programs)} programs need as many different names, got {names}")
    if io not in tuple(Io):
        raise ConfigError(f"io is {io!r}; it must be 'stacked' or 'named'")


def _used(graph: fx.Graph, weights: Sequence[Weight]) -> list[Weight]:
    kept = []
    for weight in weights:
        if weight.node.users:
            kept.append(weight)
        else:
            graph.erase_node(weight.node)
    return kept


def _tensor(merger: _Merger, weight: Weight) -> torch.Tensor:
    tensors = [merger.numbers.weights[number][1] for number in weight.numbers]
    return stack(tensors) if weight.grouped else tensors[0].detach()


def _program(
    merger: _Merger,
    module: fx.GraphModule,
    outputs: Sequence[Port],
    weights: dict[str, torch.Tensor],
) -> Program:
    members = merger.members
    kinds = {program.rows for program in members}
    return Program(
        graph=module,
        input_names=tuple(port.name for port in merger.inputs),
        output_names=tuple(port.name for port in outputs),
        weights=weights,
        aliases=(),
        unused=(),
        symbols=merger.extents.symbols,
        symbol_names=merger.fakes.names,
        constraints=merger.extents.constraints,
        input_axes=tuple(port.axis for port in merger.inputs),
        output_axes=tuple(port.axis for port in outputs),
        rows=kinds.pop() if len(kinds) == 1 else RowsKind.WHOLE_REQUEST,
        bound=tuple(
            (f"{name}.{key}", value)
            for name, program in zip(merger.names, members, strict=True)
            for key, value in program.bound
        ),
        guards=(),
    )
