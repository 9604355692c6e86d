"""Inputs and outputs of a merged program: stacked over members, shared, or by member and name."""

from collections.abc import Container, Sequence
from dataclasses import dataclass

import torch
from torch import fx

from fusec.ir.errors import MergeError, UnsupportedError
from fusec.passes.merge.leaves import Leaves
from fusec.passes.merge.numbering import Numbers, spec_text
from fusec.passes.merge.operand import Place, Slot
from fusec.passes.merge.symbols import Extents, Fakes
from fusec.passes.program import Program

__all__ = ["Port", "Ports", "fresh"]

aten = torch.ops.aten


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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ports:
    """Makes the placeholders and results of one merge.

    Attributes:
        members: the programs.
        names: one per member.
        numbers: of their values.
        extents: their symbols, joined.
        fakes: makes the placeholders' fake values.
        leaves: makes the placeholders.
        places: number -> where the value is in the merged graph; inputs are added here.
    """

    members: Sequence[Program]
    names: Sequence[str]
    numbers: Numbers
    extents: Extents
    fakes: Fakes
    leaves: Leaves
    places: dict[int, Place]

    # Inputs.

    def named_inputs(self) -> list[Port]:
        """Make an input for each input of each member."""
        return [
            self._own_input(member, i)
            for member, program in enumerate(self.members)
            for i in range(len(program.input_names))
        ]

    def stacked_inputs(self) -> list[Port]:
        """Make one input [n, ..] where all members have it alike, else one per member."""
        ports: list[Port] = []
        count = len(self.members)
        for i in range(self._most_inputs):
            if len({self._input_spec(member, i) for member in range(count)}) == 1:
                port = self._input(self._common_name(i, ports), 0, i, (count,))
                slot = Slot(port.node, count, True)
                for member in range(count):
                    self._put(member, i, Place(slot, member))
                ports.append(port)
            else:
                having = [m for m, p in enumerate(self.members) if i < len(p.input_names)]
                ports += [self._own_input(member, i) for member in having]
        return ports

    def shared_inputs(self) -> list[Port]:
        """Make one input that all members read.

        Raises:
            MergeError: members whose inputs have different shapes.
        """
        ports: list[Port] = []
        for i in range(self._most_inputs):
            specs = {self._input_spec(m, i): name for m, name in enumerate(self.names)}
            if len(specs) != 1:
                (one, first), (other, second) = list(specs.items())[:2]
                raise MergeError(
                    f"members share inputs, but input {i} of {first} is {one or 'missing'} and "
                    f"of {second} {other or 'missing'}; merge without shared inputs"
                )
            port = self._input(self._common_name(i, ports), 0, i, ())
            for member in range(len(self.members)):
                self._put(member, i, Place(Slot(port.node, 1, False), 0))
            ports.append(port)
        return ports

    @property
    def _most_inputs(self) -> int:
        return max(len(program.input_names) for program in self.members)

    def _input(self, name: str, member: int, i: int, lead: Sequence[int]) -> Port:
        program = self.members[member]
        node = self.leaves.placeholder(name)
        node.meta["val"] = self.fakes.tensor(program.inputs[i].meta["val"], member, lead)
        axis = program.input_axes[i]
        return Port(name=name, node=node, axis=None if axis is None else axis + len(lead))

    def _own_input(self, member: int, i: int) -> Port:
        name = f"{self.names[member]}.{self.members[member].input_names[i]}"
        port = self._input(name, member, i, ())
        self._put(member, i, Place(Slot(port.node, 1, False), 0))
        return port

    def _put(self, member: int, i: int, place: Place) -> None:
        source = self.members[member].inputs[i]
        self.places[self.numbers.values[member][source]] = place

    def _input_spec(self, member: int, i: int) -> str:
        """Describe an input; empty where the member has none there."""
        inputs = self.members[member].inputs
        if i >= len(inputs):
            return ""
        return spec_text(inputs[i].meta["val"], self.extents.names[member])

    def _common_name(self, i: int, ports: Sequence[Port]) -> str:
        return fresh(self.members[0].input_names[i], {port.name for port in ports})

    # Outputs.

    def named_outputs(self) -> list[Port]:
        """Make an output for each output of each member."""
        return [
            self._own_output(member, j)
            for member, program in enumerate(self.members)
            for j in range(len(program.output_names))
        ]

    def stacked_outputs(self) -> list[Port]:
        """Make one output [n, ..] where all members have it alike, else one per member."""
        ports: list[Port] = []
        for j in range(max(len(program.output_names) for program in self.members)):
            having = [m for m, p in enumerate(self.members) if j < len(p.output_names)]
            specs = {self._output_spec(member, j) for member in having}
            if len(having) == len(self.members) and len(specs) == 1:
                ports.append(self._stacked_output(j, {port.name for port in ports}))
            else:
                ports += [self._own_output(member, j) for member in having]
        return ports

    def _output(self, member: int, j: int) -> fx.Node:
        output = self.members[member].outputs[j]
        if not isinstance(output, fx.Node) or not isinstance(output.meta["val"], torch.Tensor):
            name = self.members[member].output_names[j]
            raise UnsupportedError(
                f"output {name} of {self.names[member]} is {output}, not a tensor; merge without it"
            )
        return output

    def _output_spec(self, member: int, j: int) -> str:
        return spec_text(self._output(member, j).meta["val"], self.extents.names[member])

    def _found(self, member: int, j: int) -> Place:
        return self.places[self.numbers.values[member][self._output(member, j)]]

    def _own_output(self, member: int, j: int) -> Port:
        program = self.members[member]
        name = f"{self.names[member]}.{program.output_names[j]}"
        node = self.leaves.row(self._found(member, j))
        return Port(name=name, node=node, axis=program.output_axes[j])

    def _stacked_output(self, j: int, taken: Container[str]) -> Port:
        count = len(self.members)
        node, grouped = self.leaves(tuple(self._found(member, j) for member in range(count)))
        if not grouped:
            graph = node.graph
            rank = self._output(0, j).meta["val"].dim()
            lifted = graph.call_function(aten.unsqueeze.default, (node, 0))
            node = graph.call_function(aten.expand.default, (lifted, [count] + [-1] * rank))
        axis = self.members[0].output_axes[j]
        name = fresh(self.members[0].output_names[j], taken)
        return Port(name=name, node=node, axis=None if axis is None else axis + 1)


def fresh(name: str, taken: Container[str]) -> str:
    """Give a name that is not taken, by a number at its end."""
    found, count = name, 0
    while found in taken:
        count += 1
        found = f"{name}_{count}"
    return found
