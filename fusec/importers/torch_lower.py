"""Bring an exported graph into the operator set: no mutation, no leftovers of tracing.

    rewrites   dropout in eval mode, detach, view, arange, ...: one table, node by node
    in place   relu_(x) on a value that nothing else sees becomes relu(x)
    the rest   torch's own functionalisation and decompositions, only for operators outside the set

The last step costs 130 to 250 ms, so it runs only if the first two leave something to do.
"""

from collections.abc import Callable, Mapping
from functools import cache

import torch
from torch import fx
from torch._decomp import global_decomposition_table
from torch.export import ExportedProgram, default_decompositions

from fusec.importers.torch_subgraphs import all_graphs, all_nodes
from fusec.kernels.operators import is_operator

__all__ = ["lower"]

aten = torch.ops.aten

_GRADIENT_MODE = torch.ops.higher_order.wrap_with_set_grad_enabled

Rewrite = Callable[[fx.Node], bool]
"""Changes a node; tells whether the node is to be erased."""


def lower(exported: ExportedProgram) -> ExportedProgram:
    """Give an equal program in the operator set, as far as decompositions can.

    The graph of the argument is edited. Operators that are still outside the set, and mutations of
    inputs or buffers, are left for the caller to refuse.
    """
    for graph in list(all_graphs(exported.graph_module)):
        _inline_gradient_modes(graph)
    for last in (False, True):
        _clean(exported.graph_module)
        if last or not _foreign(exported.graph_module):
            break
        for node in all_nodes(exported.graph_module):
            if node.target is aten.view.default:
                _reshape(node)
        exported = exported.run_decompositions(dict(_decompositions()))
    return exported


def _inline_gradient_modes(graph: fx.Graph) -> None:
    """Put what ran under `torch.enable_grad` back in its place: no value depends on gradients."""
    owner = graph.owning_module
    for node in graph.find_nodes(op="call_function", target=_GRADIENT_MODE):
        region = node.args[1]
        inner = getattr(owner, str(region.target))
        values = dict(zip(inner.graph.find_nodes(op="placeholder"), node.args[2:], strict=True))
        with graph.inserting_before(node):
            for old in inner.graph.nodes:
                if old.op == "get_attr":
                    name = f"{region.target}_{old.target}"
                    setattr(owner, name, getattr(inner, str(old.target)))
                    values[old] = graph.get_attr(name)
                elif old.op == "call_function":
                    values[old] = graph.node_copy(old, values.__getitem__)
        results = fx.map_arg(inner.graph.output_node().args[0], values.__getitem__)
        for user in list(node.users):
            user.replace_all_uses_with(results[user.args[1]])
            graph.erase_node(user)
        graph.erase_node(node)
        if not region.users:
            graph.erase_node(region)
        # A region may hold another one.
        _inline_gradient_modes(graph)
        break


def _clean(module: fx.GraphModule) -> None:
    for graph in all_graphs(module):
        _functionalise(graph)
    if any(_mutates(n) for n in all_nodes(module)):
        return
    for graph in all_graphs(module):
        _rewrite(graph)
        if graph.owning_module is not module and graph.owning_module is not None:
            graph.owning_module.recompile()


def _foreign(module: fx.GraphModule) -> bool:
    return any(n.op == "call_function" and not is_operator(n.target) for n in all_nodes(module))


def _mutates(node: fx.Node) -> bool:
    return isinstance(node.target, torch._ops.OpOverload) and node.target._schema.is_mutable


def _rewrite(graph: fx.Graph) -> None:
    """Apply the tables; right only where nothing is written to."""
    for node in list(graph.nodes):
        if isinstance(node.target, torch._ops.OpOverload):
            node.target = _main_name(node.target)
        rewrite = REWRITES.get(node.target) if node.op == "call_function" else None
        if rewrite is not None and rewrite(node):
            graph.erase_node(node)
    graph.eliminate_dead_code(_kept)


def _kept(node: fx.Node) -> bool:
    """Tell whether a node stays though nobody uses it: the marks that torch.vmap leaves do."""
    marks = getattr(node.target, "__module__", None) == "torch._functorch.predispatch"
    return marks or node.op in ("placeholder", "output")


@cache
def _decompositions() -> Mapping[torch._ops.OperatorBase, Callable[..., object]]:
    """Torch's decompositions of operators outside the set; those inside stay whole."""
    # The default table has what export decomposes by itself; the global one knows more operators.
    table = {
        **global_decomposition_table["post_autograd"],
        **default_decompositions().materialize(),
    }
    return {op: how for op, how in table.items() if not is_operator(op)}


def _forward(node: fx.Node) -> bool:
    """Give a node's first operand to its users."""
    operand = node.args[0]
    assert isinstance(operand, fx.Node)
    node.replace_all_uses_with(operand)
    return True


def _drop(node: fx.Node) -> bool:
    return not node.users


def _dropout(node: fx.Node) -> bool:
    probability = node.args[1] if len(node.args) > 1 else node.kwargs.get("p", 0.5)
    train = node.args[2] if len(node.args) > 2 else node.kwargs.get("train", True)
    return _forward(node) if not train or probability == 0.0 else False


def _same_memory_format(node: fx.Node) -> bool:
    """Drop a copy: values do not change after the program has no mutation."""
    return _forward(node)


def _reshape(node: fx.Node) -> bool:
    """Replace a view, which is legal for the traced strides only."""
    if isinstance(node.args[1], list | tuple):
        node.target = aten.reshape.default
    return False


def _arange(node: fx.Node) -> bool:
    """Spell every range with start, end and step."""
    start, end = (0, node.args[0]) if len(node.args) == 1 else (node.args[0], node.args[1])
    node.target, node.args = aten.arange.start_step, (start, end, 1)
    return False


def _rrelu(node: fx.Node) -> bool:
    """Spell a random slope by its mean, which it is outside of training."""
    given = dict(zip(("lower", "upper", "training"), node.args[1:], strict=False)) | node.kwargs
    lower, upper = given.get("lower", 1 / 8), given.get("upper", 1 / 3)
    if not given.get("training", False):
        assert isinstance(lower, int | float) and isinstance(upper, int | float)
        node.target = aten.leaky_relu.default
        node.args, node.kwargs = (node.args[0], (lower + upper) / 2), {}
    return False


SYNONYMS: dict[str, str] = {
    "__and__": "bitwise_and", "__or__": "bitwise_or", "__xor__": "bitwise_xor",
    "__lshift__": "bitwise_left_shift", "__rshift__": "bitwise_right_shift",
    "absolute": "abs", "adjoint": "mT", "arccos": "acos", "arccosh": "acosh", "arcsin": "asin",
    "arcsinh": "asinh", "arctan": "atan", "arctan2": "atan2", "arctanh": "atanh",
    "clip": "clamp", "concat": "cat", "concatenate": "cat", "divide": "div", "fix": "trunc",
    "ger": "outer", "greater": "gt", "greater_equal": "ge", "less": "lt", "less_equal": "le",
    "linalg_matmul": "matmul", "moveaxis": "movedim", "multiply": "mul", "negative": "neg",
    "not_equal": "ne", "row_stack": "vstack", "special_digamma": "digamma", "special_erf": "erf",
    "special_erfc": "erfc", "special_erfinv": "erfinv", "special_exp2": "exp2",
    "special_expit": "sigmoid", "special_expm1": "expm1", "special_gammaln": "lgamma",
    "special_i0": "i0", "special_log1p": "log1p", "special_log_softmax": "log_softmax",
    "special_logit": "logit", "special_logsumexp": "logsumexp", "special_sinc": "sinc",
    "special_softmax": "softmax", "subtract": "sub",
    "true_divide": "div",
}  # fmt: skip
"""Second names that torch has for the same operator with the same arguments."""


def _main_name(op: torch._ops.OpOverload) -> torch._ops.OpOverload:
    name = SYNONYMS.get(op._schema.name.removeprefix("aten::"))
    if name is None or op.namespace != "aten":
        return op
    packet = getattr(aten, name)
    main = getattr(packet, op._overloadname, None)
    return main if isinstance(main, torch._ops.OpOverload) and is_operator(main) else op


REWRITES: dict[object, Rewrite] = {
    aten.dropout.default: _dropout,
    aten.feature_dropout.default: _dropout,
    aten.alpha_dropout.default: _dropout,
    aten.feature_alpha_dropout.default: _dropout,
    aten.lift_fresh_copy.default: _forward,
    aten.lift_fresh.default: _forward,
    aten.lift.default: _forward,
    aten.detach.default: _forward,
    aten.alias.default: _forward,
    aten.clone.default: _same_memory_format,
    aten.contiguous.default: _same_memory_format,
    aten.view.default: _reshape,
    aten._unsafe_view.default: _reshape,
    aten.rrelu.default: _rrelu,
    aten.arange.default: _arange,
    aten.arange.start: _arange,
    aten._assert_tensor_metadata.default: _drop,
    aten._assert_scalar.default: _drop,
    aten.sym_constrain_range_for_size.default: _drop,
    aten.sym_constrain_range.default: _drop,
}

# Composite operators always may return a view of an operand, except these.
_FRESH = frozenset(
    {"linear", "matmul", "batch_norm", "group_norm", "instance_norm", "layer_norm", "rms_norm",
     "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d",
     "softmax", "log_softmax", "relu6", "selu", "max_pool1d", "max_pool2d", "max_pool3d",
     "avg_pool1d", "scaled_dot_product_attention", "prelu", "cosine_similarity", "lift_fresh_copy",
     "bilinear", "silu", "mish", "hardswish", "adaptive_avg_pool2d", "adaptive_avg_pool3d"}
)  # fmt: skip


def _functionalise(graph: fx.Graph) -> None:
    """Replace in-place operators on values that only they and later nodes see."""
    order = {node: i for i, node in enumerate(graph.nodes)}
    for node in list(graph.nodes):
        if node.op != "call_function" or not isinstance(node.target, torch._ops.OpOverload):
            continue
        if node.target is aten.detach_.default:
            # Detaching is about gradients: it changes no value.
            _forward(node)
            graph.erase_node(node)
            continue
        functional = _functional(node.target)
        base = node.args[0] if node.args else None
        if functional is None or not isinstance(base, fx.Node) or not _private(base, node, order):
            continue
        if _same_result(functional, node):
            node.target = functional
            # What read the changed memory later now reads the new value.
            _redirect(base, node, order)


def _redirect(base: fx.Node, node: fx.Node, order: Mapping[fx.Node, int]) -> None:
    base.replace_all_uses_with(node, delete_user_cb=lambda user: order[user] > order[node])


def _functional(op: torch._ops.OpOverload) -> torch._ops.OpOverload | None:
    """Give relu for relu_, if the in-place operator writes to its first operand only."""
    arguments = op._schema.arguments
    name = op._schema.name.removeprefix("aten::")
    if not op._schema.is_mutable or not name.endswith("_") or name.startswith("__"):
        return None
    if any(a.is_write for a in arguments[1:]) or not arguments or not arguments[0].is_write:
        return None
    packet = getattr(aten, name[:-1], None)
    result = getattr(packet, op._overloadname, None)
    return result if isinstance(result, torch._ops.OpOverload) else None


def _private(base: fx.Node, node: fx.Node, order: Mapping[fx.Node, int]) -> bool:
    """Tell whether `base` is memory of its own of which no view was taken before `node`."""
    if base.op != "call_function" or not isinstance(base.target, torch._ops.OpOverload):
        return False
    return not _may_view(base.target) and not any(
        _sees(u) for u in base.users if order[u] < order[node]
    )


def _may_view(op: torch._ops.OpOverload) -> bool:
    if op._schema.name.removeprefix("aten::") in _FRESH:
        return False
    composite = torch._C._dispatch_has_kernel_for_dispatch_key(
        op._name, "CompositeImplicitAutograd"
    )
    return composite or any(r.alias_info is not None for r in op._schema.returns)


def _sees(user: fx.Node) -> bool:
    """Tell whether a user keeps a view of its operand."""
    if user.op != "call_function" or not isinstance(user.target, torch._ops.OpOverload):
        return True
    return _may_view(user.target)


def _same_result(op: torch._ops.OpOverload, node: fx.Node) -> bool:
    """Tell whether the functional operator gives the dtype and shape that the in-place one kept."""
    kept = node.meta.get("val")
    if not isinstance(kept, torch.Tensor):
        return False
    mode = getattr(kept, "fake_mode", None)
    if mode is None:
        return False
    args, kwargs = fx.map_arg((node.args, node.kwargs), lambda n: n.meta["val"])
    with torch.no_grad(), mode:
        got = op(*args, **kwargs)
    return bool(
        isinstance(got, torch.Tensor) and got.dtype == kept.dtype and got.shape == kept.shape
    )
