"""What must hold after every pass; what does not is a bug in fusec and says so."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import fx
from torch.fx.experimental.symbolic_shapes import statically_known_true

from fusec.ir.errors import VerifyError
from fusec.passes.program import Program, on_fakes

__all__ = ["agree", "verify"]


def verify(program: Program, before: Program, name: str) -> None:
    """Check a program that a pass returned.

    `graph.lint()`, no dead nodes, meta agrees with running every node on fake tensors again,
    placeholders, arity and results as before.

    Args:
        program: what the pass returned.
        before: what the pass was given.
        name: the pass, for the message.

    Raises:
        VerifyError: an invariant is broken.
    """
    program.graph.graph.lint()
    _check_interface(program, before, name)
    for node in program.graph.graph.nodes:
        if node.op == "call_function":
            _check_node(program, node, name)


def _check_interface(program: Program, before: Program, name: str) -> None:
    ours, theirs = ([n.name for n in p.placeholders] for p in (program, before))
    if ours != theirs:
        raise VerifyError(f"pass {name} changed the placeholders from {theirs} to {ours}")
    wanted = len(program.output_names) + len(program.guards)
    if len(program.results) != wanted:
        raise VerifyError(
            f"after pass {name} the graph returns {len(program.results)} values, "
            f"wanted {len(program.output_names)} outputs and {len(program.guards)} guard operands"
        )
    for i, (now, then) in enumerate(zip(program.outputs, before.outputs, strict=True)):
        if isinstance(then, fx.Node) and not agree(_value(now), then.meta["val"]):
            raise VerifyError(
                f"pass {name} changed output {i} from {then.meta['val']} to {_value(now)}"
            )


def _check_node(program: Program, node: fx.Node, name: str) -> None:
    if not node.users:
        raise VerifyError(f"pass {name} left dead node {node.format_node()}")
    if "val" not in node.meta:
        raise VerifyError(f"pass {name} left {node.name} without a fake value")
    if any(operand.op == "get_attr" for operand in node.all_input_nodes):
        return  # Control flow: its branches are graphs, which cannot be run on fakes like this.
    with on_fakes(program.graph.graph):
        args = fx.map_arg(node.args, _value)
        kwargs = fx.map_arg(node.kwargs, _value)
        assert callable(node.target)
        again = node.target(*args, **kwargs)
    if _at_example(again) != _at_example(node.meta["val"]):
        raise VerifyError(
            f"after pass {name}, {node.format_node()} carries {node.meta['val']}, "
            f"running it on fake tensors gives {again}"
        )


def _value(node: Any) -> Any:
    return node.meta["val"] if isinstance(node, fx.Node) else node


def _at_example(value: Any) -> Any:
    """Give dtypes and extents with symbols at their examples.

    Some of torch's fake operators give the example's extent where they should give an expression.
    """
    if isinstance(value, torch.Tensor):
        return value.dtype, tuple(_at_example(d) for d in value.shape)
    if isinstance(value, tuple | list):
        return tuple(_at_example(v) for v in value)
    if isinstance(value, torch.SymInt | torch.SymFloat | torch.SymBool):
        return value.node.hint
    return value


def agree(a: object, b: object) -> bool:
    """Tell whether two traced values have equal dtypes and extents, without adding guards."""
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return a.dtype == b.dtype and _same_extents(a.shape, b.shape)
    if isinstance(a, tuple | list) and isinstance(b, tuple | list):
        return len(a) == len(b) and all(agree(x, y) for x, y in zip(a, b, strict=True))
    return isinstance(a, torch.Tensor) == isinstance(b, torch.Tensor)


def _same_extents(a: Sequence[Any], b: Sequence[Any]) -> bool:
    return len(a) == len(b) and all(
        statically_known_true(x == y) for x, y in zip(a, b, strict=True)
    )
