"""What cannot be imported from PyTorch, found before or after tracing, with the place named."""

import re
from collections.abc import Iterator, Sequence

import torch
from torch import fx, nn
from torch.export import ExportedProgram
from torch.export.graph_signature import OutputKind
from torch.fx.experimental.symbolic_shapes import free_unbacked_symbols
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.modules.instancenorm import _InstanceNorm
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from fusec.importers.torch_place import place_of_node
from fusec.importers.torch_subgraphs import all_nodes
from fusec.ir.dtypes import DTYPES
from fusec.ir.errors import ImportFailed
from fusec.kernels.operators import is_operator

__all__ = [
    "refuse_assignments",
    "refuse_graph",
    "refuse_module",
    "refuse_mutation",
    "refuse_statistics",
    "written_state",
]

aten = torch.ops.aten

_QUANTISED = ("torch.ao.nn.quantized", "torch.ao.nn.intrinsic.quantized", "torch.nn.quantized")


def refuse_module(module: nn.Module) -> None:
    """Refuse modules that cannot be traced faithfully.

    Raises:
        ImportFailed: TorchScript, packed quantised layers, lazy layers without weights, meta
            tensors, or layers that act differently while training.
    """
    for name, part in module.named_modules():
        path = name.removeprefix("inner.").removeprefix("inner") or "the model itself"
        if isinstance(part, torch.jit.ScriptModule):
            raise ImportFailed(
                f"{path} is a TorchScript module, which cannot be traced again; import the "
                "original nn.Module, or convert it with TS2EPConverter and import the result"
            )
        if part.training and _acts_in_training(part):
            raise ImportFailed(
                f"{path} ({type(part).__name__}) is in training mode, so its answer would not be "
                "the trained model's; call model.eval() before importing"
            )
        if type(part).__module__.startswith(_QUANTISED):
            raise ImportFailed(
                f"{path} ({type(part).__name__}) holds weights packed by torch.ao.quantization, "
                "which a trace cannot open; import the float model, quantise it with the pt2e "
                "flow, or import it as ONNX"
            )
        for kind, tensors in (("parameter", part._parameters), ("buffer", part._buffers)):
            for key, tensor in tensors.items():
                if isinstance(tensor, UninitializedBuffer | UninitializedParameter):
                    raise ImportFailed(
                        f"{kind} {key} of {path} ({type(part).__name__}) has no shape yet; run the "
                        "lazy module once and load its weights first"
                    )
                if tensor is not None and tensor.is_inference():
                    raise ImportFailed(
                        f"{kind} {key} of {path} was made under torch.inference_mode, where it "
                        "cannot be traced; build or load the model outside of it"
                    )
                if tensor is not None and tensor.device.type == "meta":
                    raise ImportFailed(
                        f"{kind} {key} of {path} is on the meta device and holds no data; load "
                        "the weights first"
                    )


def _acts_in_training(part: nn.Module) -> bool:
    if isinstance(part, _DropoutNd):
        return part.p > 0
    if isinstance(part, nn.RNNBase | nn.MultiheadAttention):
        return part.dropout > 0
    if isinstance(part, _InstanceNorm):
        return part.track_running_stats
    return isinstance(part, _BatchNorm | nn.RReLU | nn.FractionalMaxPool2d | nn.FractionalMaxPool3d)


def refuse_assignments(module: nn.Module, warnings: Sequence[str]) -> None:
    """Refuse modules that keep tensors in attributes while running.

    Args:
        module: what was traced.
        warnings: what torch.export warned about.

    Raises:
        ImportFailed: names the attributes.
    """
    for text in warnings:
        if "assigned during export" not in text:
            continue
        # Recurrent layers keep a list of their own weights, which the trace itself replaces.
        derived = set(_derived(module))
        names = [
            n.removeprefix("inner.")
            for n in re.findall(r"self\.([\w.\[\]]+)", text)
            if "_flat_weights" not in n and n not in derived
        ]
        if names:
            shown = ", ".join(names)
            raise ImportFailed(
                f"the model stores tensors in {shown} while running; answers would depend on "
                "earlier requests: pass that state in and return it"
            )


def _derived(module: nn.Module) -> Iterator[str]:
    """Name attributes that a hook computes from parameters before every call: that is no state."""
    for path, part in module.named_modules():
        for hook in part._forward_pre_hooks.values():
            if isinstance(hook, WeightNorm | SpectralNorm):
                yield f"{path}.{hook.name}".removeprefix(".")
            elif isinstance(hook, BasePruningMethod):
                yield f"{path}.{hook._tensor_name}".removeprefix(".")


def refuse_mutation(exported: ExportedProgram) -> None:
    """Refuse programs that write to inputs or buffers; look after functionalisation.

    Raises:
        ImportFailed: names the input or buffer.
    """
    signature = exported.graph_signature
    kinds = (OutputKind.BUFFER_MUTATION, OutputKind.USER_INPUT_MUTATION)
    more = {"PARAMETER_MUTATION"}
    for spec in signature.output_specs:
        if spec.kind in kinds or spec.kind.name in more:
            _refuse_write(str(spec.target), exported)
    for node in all_nodes(exported.graph_module):
        if node.op == "call_function" and _writes(node):
            base = _root(node.args[0])
            _refuse_write(base.name if base is not None else str(node.target), exported, node)


def _refuse_write(target: str, exported: ExportedProgram, node: fx.Node | None = None) -> None:
    signature = exported.graph_signature
    targets = {
        **signature.inputs_to_buffers,
        **signature.inputs_to_parameters,
        **signature.inputs_to_lifted_tensor_constants,
    }
    name = targets.get(target, target).removeprefix("inner.")
    where = f" at {place_of_node(node)}" if node is not None else ""
    raise ImportFailed(written_state(name, where))


def written_state(name: str, where: str = "") -> str:
    """Word the refusal of a model that changes its own state."""
    return (
        f"the model writes to {name} while running{where}; answers would depend on earlier "
        "requests: pass that state in and return it, or freeze it"
    )


def _writes(node: fx.Node) -> bool:
    target = node.target
    return isinstance(target, torch._ops.OpOverload) and target._schema.is_mutable


_WITH_STATISTICS = (
    aten.batch_norm.default, aten.native_batch_norm.default, aten.instance_norm.default,
)  # fmt: skip


def refuse_statistics(module: fx.GraphModule) -> None:
    """Refuse norms that update running statistics; their operator hides that it writes.

    Raises:
        ImportFailed: names the module and line.
    """
    for node in all_nodes(module):
        if node.target not in _WITH_STATISTICS:
            continue
        if node.args[5] and node.args[3] is not None:
            raise ImportFailed(
                f"{node.target} updates its running statistics at {place_of_node(node)}; call "
                "model.eval() before importing"
            )


def _root(value: object) -> fx.Node | None:
    node = value if isinstance(value, fx.Node) else None
    while node is not None and node.op == "call_function" and node.args:
        node = node.args[0] if isinstance(node.args[0], fx.Node) else None
    return node


def refuse_graph(module: fx.GraphModule) -> None:
    """Refuse what is left in a lowered graph and has no place in a program.

    Raises:
        ImportFailed: random or unknown operators, sizes that depend on values; the message names
            operator, module and line.
    """
    for node in all_nodes(module):
        if node.op != "call_function":
            continue
        if _random(node):
            raise ImportFailed(
                f"{node.target} draws random numbers at {place_of_node(node)}; call model.eval(), "
                "or pass the numbers in as an input"
            )
        values = node.meta.get("val")
        if _depends_on_data(values):
            raise ImportFailed(
                f"{node.target} gives a size or a host number that depends on the values of "
                f"tensors at {place_of_node(node)}; rewrite it with torch.where or masks"
            )
        strange = _strange_dtype(values)
        if strange is not None:
            raise ImportFailed(
                f"{node.target} gives {strange}, which a plan cannot hold, at "
                f"{place_of_node(node)}; use one of {', '.join(DTYPES)}"
            )
        if not is_operator(node.target):
            raise ImportFailed(
                f"operator {node.target} is outside the fusec operator set, at "
                f"{place_of_node(node)}"
            )


def _random(node: fx.Node) -> bool:
    target = node.target
    if target is aten.scaled_dot_product_attention.default:
        probability = node.args[4] if len(node.args) > 4 else node.kwargs.get("dropout_p", 0.0)
        return bool(probability != 0.0)
    return (
        isinstance(target, torch._ops.OpOverload)
        and torch.Tag.nondeterministic_seeded in target.tags
    )


def _strange_dtype(values: object) -> str | None:
    if isinstance(values, tuple | list):
        return next(filter(None, map(_strange_dtype, values)), None)
    name = str(values.dtype).removeprefix("torch.") if isinstance(values, torch.Tensor) else None
    return None if name in DTYPES else name


def _depends_on_data(values: object) -> bool:
    if isinstance(values, tuple | list):
        return any(_depends_on_data(v) for v in values)
    if isinstance(values, torch.Tensor | torch.SymInt | torch.SymFloat | torch.SymBool):
        return bool(free_unbacked_symbols(values))
    return False
