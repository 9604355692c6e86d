"""The two architectures of the demo, their training, and their hand-over as ONNX."""

from typing import Any

import torch
from torch import nn

from fusec.demo.digits import Digits
from fusec.ir.errors import ConfigError

__all__ = ["ARCHITECTURES", "cnn", "mlp", "to_onnx", "train"]

EPOCHS = 25
ROWS = 128
OPSET = 17


def mlp(classes: int) -> nn.Sequential:
    """Return a perceptron with two hidden layers."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(64, 96),
        nn.ReLU(),
        nn.Linear(96, 48),
        nn.ReLU(),
        nn.Linear(48, classes),
    )


def cnn(classes: int) -> nn.Sequential:
    """Return two convolutions with batch norm, ReLU and pooling, and a linear layer."""
    return nn.Sequential(
        nn.Conv2d(1, 12, 3, padding=1),
        nn.BatchNorm2d(12),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(12, 24, 3, padding=1),
        nn.BatchNorm2d(24),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(96, classes),
    )


ARCHITECTURES = {"mlp": mlp, "cnn": cnn}


def train(model: nn.Module, digits: Digits, *, epochs: int = EPOCHS) -> nn.Module:
    """Train with Adam and a falling rate, draw batches from torch's generator; return it in eval.

    Args:
        model: gives logits [rows, classes] for images [rows, 1, 8, 8].
        digits: training images and labels.
        epochs: passes over the training images.
    """
    images, labels = digits.train_images, digits.train_labels
    steps = epochs * -(-len(images) // ROWS)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    model.train()
    for _ in range(epochs):
        for rows in torch.split(torch.randperm(len(images)), ROWS):
            loss = nn.functional.cross_entropy(model(images[rows]), labels[rows])
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            schedule.step()
    return model.eval()


def to_onnx(model: nn.Sequential, classes: int) -> bytes:
    """Write one of the two architectures as ONNX, with a named batch dimension.

    Nodes and initialisers are laid out here rather than by an exporter, so that the demo does not
    depend on which exporter the installed PyTorch has.

    Raises:
        ConfigError: onnx is not installed.
    """
    try:
        import onnx
        from onnx import TensorProto, helper, numpy_helper
    except ImportError as error:
        raise ConfigError(
            "the demo needs onnx; install fusec with its demo extra: pip install 'fusec[demo]'"
        ) from error
    nodes: list[Any] = []
    weights: list[Any] = []
    value = "image"
    for number, layer in enumerate(model):
        kind, attributes = _operator(layer)
        names = []
        for name, tensor in layer.state_dict().items():
            if tensor.is_floating_point():
                names.append(f"{number}.{name}")
                array = tensor.detach().numpy()
                weights.append(numpy_helper.from_array(array, names[-1]))
        out = "logits" if number == len(model) - 1 else f"value{number}"
        nodes.append(helper.make_node(kind, [value, *names], [out], **attributes))
        value = out
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 1, 8, 8])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", classes])
    graph = helper.make_graph(nodes, "digits", [image], [logits], weights)
    opsets = [helper.make_opsetid("", OPSET)]
    made = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    onnx.checker.check_model(made)
    return bytes(made.SerializeToString())


def _operator(layer: nn.Module) -> tuple[str, dict[str, Any]]:
    """Return the ONNX operator and attributes of a layer; its tensors are in state-dict order."""
    if isinstance(layer, nn.Linear):
        return "Gemm", {"transB": 1}
    if isinstance(layer, nn.Conv2d):
        return "Conv", {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
    if isinstance(layer, nn.BatchNorm2d):
        return "BatchNormalization", {"epsilon": layer.eps}
    if isinstance(layer, nn.MaxPool2d):
        return "MaxPool", {"kernel_shape": [2, 2], "strides": [2, 2]}
    return {nn.ReLU: "Relu", nn.Flatten: "Flatten"}[type(layer)], {}
