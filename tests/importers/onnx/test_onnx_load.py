"""Reading model files: what is refused, and how clearly."""

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from fusec.importers.onnx.load import load_model
from fusec.importers.onnx.structure import structure
from fusec.ir.errors import ConfigError, ImportFailed

F = TensorProto.FLOAT


def _model(opset: int = 17, op: str = "Add", **attributes: object) -> onnx.ModelProto:
    weight = numpy_helper.from_array(np.arange(12, dtype=np.float32).reshape(3, 4), "w")
    graph = helper.make_graph(
        [helper.make_node(op, ["x", "w"], ["y"], name="first", **attributes)],
        "g",
        [helper.make_tensor_value_info("x", F, ["batch", 4])],
        [helper.make_tensor_value_info("y", F, ["batch", 4])],
        [weight],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])


def _external(folder: Path, **entries: object) -> Path:
    """Write a model whose weight is in another file."""
    model = _model()
    tensor = model.graph.initializer[0]
    (folder / "w.bin").write_bytes(tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": "w.bin", **entries}.items():
        tensor.external_data.add(key=key, value=str(value))
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def _weight(path: Path) -> np.ndarray:
    (weight,) = structure(load_model(path)).weights
    return weight.array()


def test_signature_is_data() -> None:
    loaded = load_model(_model())
    (info,) = loaded.inputs
    assert (info.name, info.kind, info.elem_type, info.dims) == ("x", "tensor", F, ("batch", 4))
    assert [output.name for output in loaded.outputs] == ["y"]
    assert loaded.opsets == {"": 17}


def test_initialisers_listed_as_inputs_are_not_inputs() -> None:
    model = _model()
    model.graph.input.append(helper.make_tensor_value_info("w", F, [3, 4]))
    assert [info.name for info in load_model(model).inputs] == ["x"]


@pytest.mark.parametrize("kind", ["path", "text", "bytes", "proto"])
def test_every_form_of_source(kind: str, tmp_path: Path) -> None:
    model = _model()
    path = tmp_path / "m.onnx"
    path.write_bytes(model.SerializeToString())
    forms = {
        "path": path,
        "text": str(path),
        "bytes": model.SerializeToString(),
        "proto": model,
    }
    (weight,) = structure(load_model(forms[kind])).weights
    assert weight.array().tobytes() == np.arange(12, dtype=np.float32).tobytes()


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.onnx: cannot read: No such file"):
        load_model(tmp_path / "none.onnx")


def test_folder(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is a folder"):
        load_model(tmp_path)


@pytest.mark.parametrize("data", [b"", b"not a model", b"\x00" * 100, b"PK\x03\x04" + b"\x00" * 60])
def test_garbage(data: bytes) -> None:
    with pytest.raises(ConfigError, match="model bytes"):
        load_model(data)


@pytest.mark.parametrize("share", [0.02, 0.3, 0.7, 0.98])
def test_truncated(share: float, tmp_path: Path) -> None:
    data = _model().SerializeToString()
    path = tmp_path / "cut.onnx"
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(ConfigError, match=r"cut\.onnx"):
        load_model(path)


@pytest.mark.parametrize("opset", [1, 6, 29, 1000])
def test_opset_out_of_range(opset: int) -> None:
    with pytest.raises(ImportFailed, match=f"opset {opset} .* 7 to 28"):
        load_model(_model(opset))


@pytest.mark.parametrize("opset", [7, 28])
def test_opset_in_range(opset: int) -> None:
    load_model(_model(opset))


def test_unknown_operators_are_all_listed() -> None:
    model = _model()
    model.graph.node.append(helper.make_node("Frob", ["y"], ["z"], name="a", domain="my.domain"))
    model.graph.node.append(helper.make_node("Addd", ["y"], ["v"], name="b"))
    model.opset_import.append(helper.make_opsetid("my.domain", 3))
    with pytest.raises(ImportFailed) as caught:
        load_model(model)
    text = str(caught.value)
    assert "2 operator(s)" in text
    assert "my.domain::Frob (opset 3, node 'a')" in text
    assert "ai.onnx::Addd (opset 17, node 'b')" in text


def test_unknown_operator_in_a_subgraph() -> None:
    branch = helper.make_graph(
        [helper.make_node("Frob", ["x"], ["out"], name="deep")],
        "branch",
        [],
        [helper.make_tensor_value_info("out", F, None)],
    )
    graph = helper.make_graph(
        [helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)],
        "g",
        [
            helper.make_tensor_value_info("c", TensorProto.BOOL, []),
            helper.make_tensor_value_info("x", F, [2]),
        ],
        [helper.make_tensor_value_info("y", F, None)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    with pytest.raises(ImportFailed, match="node 'deep'"):
        load_model(model)


def test_external_data(tmp_path: Path) -> None:
    path = _external(tmp_path)
    assert _weight(path).tobytes() == np.arange(12, dtype=np.float32).tobytes()


def test_external_data_with_offset(tmp_path: Path) -> None:
    path = _external(tmp_path, offset=16, length=48)
    data = (tmp_path / "w.bin").read_bytes()
    (tmp_path / "w.bin").write_bytes(b"\xff" * 16 + data + b"\xff" * 5)
    assert _weight(path).tobytes() == data


def test_external_data_in_a_folder_below(tmp_path: Path) -> None:
    path = _external(tmp_path, location="weights/w.bin")
    (tmp_path / "weights").mkdir()
    (tmp_path / "w.bin").rename(tmp_path / "weights" / "w.bin")
    assert _weight(path).shape == (3, 4)


def test_external_data_from_bytes(tmp_path: Path) -> None:
    data = _external(tmp_path).read_bytes()
    with pytest.raises(ConfigError, match=r"w\.bin.*pass the path"):
        load_model(data)


def test_external_data_missing(tmp_path: Path) -> None:
    path = _external(tmp_path)
    (tmp_path / "w.bin").unlink()
    with pytest.raises(ConfigError, match=r"tensor 'w'.*w\.bin is missing"):
        load_model(path)


@pytest.mark.parametrize(
    "location", ["../w.bin", "/etc/passwd", "a/../../w.bin", "..\\w.bin", "", "C:\\w.bin"]
)
def test_external_data_leading_out(location: str, tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(b"\x00" * 48)
    folder = tmp_path / "inside"
    folder.mkdir()
    with pytest.raises(ConfigError, match="tensor 'w'"):
        load_model(_external(folder, location=location))


@pytest.mark.parametrize("link", ["file", "folder"])
def test_external_data_link_leading_out(link: str, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "s.bin").write_bytes(b"\x00" * 48)
    folder = tmp_path / "inside"
    folder.mkdir()
    if link == "file":
        (folder / "s.bin").symlink_to(outside / "s.bin")
        location = "s.bin"
    else:
        (folder / "sub").symlink_to(outside)
        location = "sub/s.bin"
    with pytest.raises(ConfigError, match="link that leads out"):
        load_model(_external(folder, location=location))


def test_external_data_link_inside(tmp_path: Path) -> None:
    path = _external(tmp_path, location="link.bin")
    (tmp_path / "link.bin").symlink_to(tmp_path / "w.bin")
    assert _weight(path).shape == (3, 4)


def test_external_data_hard_link(tmp_path: Path) -> None:
    folder = tmp_path / "inside"
    folder.mkdir()
    (tmp_path / "secret").write_bytes(b"\x00" * 48)
    os.link(tmp_path / "secret", folder / "hard.bin")
    with pytest.raises(ConfigError, match="hard link"):
        load_model(_external(folder, location="hard.bin"))


def test_external_data_replaced_by_a_hard_link_after_loading(tmp_path: Path) -> None:
    folder = tmp_path / "inside"
    folder.mkdir()
    (tmp_path / "secret").write_bytes(b"\x00" * 48)
    found = structure(load_model(_external(folder)))
    (folder / "w.bin").unlink()
    os.link(tmp_path / "secret", folder / "w.bin")
    with pytest.raises(ConfigError, match="hard link"):
        found.weights[0].array()


@pytest.mark.parametrize(
    "entries",
    [
        {"offset": 1},
        {"offset": 1 << 40},
        {"length": 49},
        {"length": 47},
        {"length": 1 << 31},
        {"offset": "-4"},
        {"length": "12a"},
    ],
)
def test_external_data_beyond_the_file(entries: dict[str, object], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="tensor 'w'"):
        load_model(_external(tmp_path, **entries))


@pytest.mark.parametrize("external", [False, True])
def test_claim_of_two_gigabytes_in_a_small_file(external: bool, tmp_path: Path) -> None:
    path = _external(tmp_path)
    model = _model() if not external else onnx.load(path, load_external_data=False)
    del model.graph.initializer[0].dims[:]
    model.graph.initializer[0].dims.extend([1 << 29])
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ConfigError, match=r"needs 2147483648 bytes"):
        load_model(path)


def test_claim_beyond_any_memory() -> None:
    model = _model()
    del model.graph.initializer[0].dims[:]
    model.graph.initializer[0].dims.extend([1 << 62, 1 << 62])
    with pytest.raises(ConfigError, match="tensor 'w'"):
        load_model(model)


def test_negative_size() -> None:
    model = _model()
    model.graph.initializer[0].dims[0] = -3
    with pytest.raises(ConfigError, match="negative size"):
        load_model(model)


def test_typed_data_of_the_wrong_amount() -> None:
    model = _model()
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.float_data.extend([1.0, 2.0])
    with pytest.raises(ConfigError, match="needs 12 elements, the file holds 2"):
        load_model(model)


def test_unknown_element_type() -> None:
    model = _model()
    model.graph.initializer[0].data_type = 99
    with pytest.raises(ImportFailed, match="element type 99"):
        load_model(model)
