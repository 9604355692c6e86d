"""Cut a program in two: the template that members share, and the recipe for a member's weights.

    raw weights ──recipe──> packed weights ─┐
                                            ├─template──> outputs
    inputs ─────────────────────────────────┘

Whatever depends on weights only belongs to the recipe, so that twins that store a weight
transposed, reshaped, cast or scaled still meet in one template (DESIGN sections 1 and 4).
"""

from collections.abc import Iterator, Mapping

import sympy
from torch import SymInt, fx

from fusec.ir.errors import UnsupportedError, VerifyError
from fusec.ir.template import Recipe, RowsKind, Template
from fusec.kernels.torch_graph import Rename, to_body
from fusec.passes.program import Program

__all__ = ["pack", "renamer"]


def pack(program: Program) -> tuple[Template, Recipe]:
    """Split a canonical program into its template and its recipe.

    The packed weights stand in the order in which a walk from the outputs meets them, so the order
    in which an exporter listed its weights does not matter.

    Args:
        program: a canonicalised program; not changed.

    Raises:
        UnsupportedError: an operator outside the operator set.
    Cost: one walk over the graph.
    """
    raw = program.weight_nodes
    weight_only = _weight_only(program, raw)
    packed = _boundary(program, weight_only)
    rename = renamer(program.symbol_names)
    outputs, guarded = program.outputs, program.results[len(program.output_names) :]
    if len(guarded) != len(program.guards):
        raise VerifyError(f"{len(guarded)} guard operands for {len(program.guards)} guards")
    template = Template(
        n_inputs=len(program.input_names),
        body=to_body(program.graph, [*program.inputs, *packed], outputs, rename),
        symbols=program.symbols,
        constraints=program.constraints,
        input_axes=program.input_axes,
        output_axes=program.output_axes,
        rows=_rows(program.rows),
        bound=program.bound,
    )
    recipe = Recipe(
        names=tuple(program.weights),
        aliases=program.aliases,
        unused=program.unused,
        body=to_body(program.graph, raw, [*packed, *guarded], rename),
        guards=program.guards,
    )
    return template, recipe


def _rows(kind: RowsKind) -> RowsKind:
    """Forget how a source takes rows: either way each row of a request is an instance."""
    return RowsKind.INDEPENDENT if kind is RowsKind.SINGLE_ROW else kind


def _weight_only(program: Program, raw: list[fx.Node]) -> set[fx.Node]:
    """Nodes that depend on at least one weight and on nothing but weights and literals."""
    inputs = set(program.inputs)
    found = set(raw)
    free: set[fx.Node] = set()
    for node in program.graph.graph.nodes:
        if node.op != "call_function" or node in inputs:
            continue
        operands = node.all_input_nodes
        if all(n in found or n in free for n in operands):
            (found if any(n in found for n in operands) else free).add(node)
    return found


def _boundary(program: Program, weight_only: set[fx.Node]) -> list[fx.Node]:
    """Weight-only nodes that the rest of the graph uses, in the order a walk meets them."""
    order: dict[fx.Node, None] = {}
    seen: set[fx.Node] = set()
    stack = list(reversed(_nodes(program.outputs)))
    while stack:
        node = stack.pop()
        if node in weight_only:
            order.setdefault(node)
        elif node not in seen:
            seen.add(node)
            stack.extend(reversed(_nodes((node.args, node.kwargs))))
    return list(order)


def _nodes(value: object) -> list[fx.Node]:
    def walk(v: object) -> Iterator[fx.Node]:
        if isinstance(v, fx.Node):
            yield v
        elif isinstance(v, tuple | list):
            for item in v:
                yield from walk(item)
        elif isinstance(v, Mapping):
            for item in v.values():
                yield from walk(item)
        elif isinstance(v, slice):
            yield from walk((v.start, v.stop, v.step))

    return list(walk(value))


def renamer(names: Mapping[str, str]) -> Rename:
    """Give a function from a symbolic extent to its text over the program's symbol names."""
    renamed = sympy.symbols(list(names.values()), positive=True, integer=True)
    symbols = dict(zip(names, renamed, strict=True))

    def rename(extent: object) -> int | str:
        if not isinstance(extent, SymInt):
            raise VerifyError(f"extent {extent!r} is neither an integer nor symbolic")
        expr = extent.node.expr
        unknown = [s.name for s in expr.free_symbols if s.name not in symbols]
        if unknown:
            raise UnsupportedError(
                f"an extent depends on data ({expr}, symbol {unknown[0]}): the size of a tensor is "
                "known only after computing its values"
            )
        text = str(expr.xreplace({s: symbols[s.name] for s in expr.free_symbols}))
        return int(text) if text.lstrip("-").isdigit() else text

    return rename
