"""Which files a path stands for, and what the models are called."""

from pathlib import Path

import pytest

from fusec.cli.sources import NameFrom, find_models
from fusec.ir.errors import ConfigError


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")


def found(*paths: Path, recursive: bool = False, by: NameFrom = NameFrom.FILE) -> dict[str, str]:
    root = paths[0] if paths[0].is_dir() else paths[0].parent
    models = find_models(paths, recursive=recursive, name_from=by).models
    return {name: str(path.relative_to(root)) for name, path in models.items()}


def test_a_folder_is_the_models_in_it_in_order(tmp_path: Path) -> None:
    touch(tmp_path, "b.onnx", "a.pt2", "C.ONNX", "README.md", ".hidden.onnx", ".git/x.onnx")
    assert found(tmp_path) == {"C": "C.ONNX", "a": "a.pt2", "b": "b.onnx"}


def test_a_file_called_model_takes_its_folders_name(tmp_path: Path) -> None:
    touch(tmp_path, "alexa/model.onnx", "jarvis/model.pt2", "top.onnx")
    wanted = {"top": "top.onnx", "alexa": "alexa/model.onnx", "jarvis": "jarvis/model.pt2"}
    assert found(tmp_path) == wanted
    assert list(find_models([tmp_path / "alexa/model.onnx"]).models) == ["alexa"]
    assert list(find_models([tmp_path / "alexa"]).models) == ["alexa"]


def test_a_triton_repository_gives_the_highest_version_of_each_model(tmp_path: Path) -> None:
    touch(tmp_path, "a/1/model.onnx", "a/10/model.onnx", "a/9/model.onnx", "a/config.pbtxt")
    touch(tmp_path, "b/1/model.onnx/model.onnx", "b/1/model.onnx/weights.bin", "b/2/notes.txt")
    assert found(tmp_path) == {"a": "a/10/model.onnx", "b": "b/1/model.onnx/model.onnx"}
    notes = find_models([tmp_path]).notes
    assert any("version 10 of 3" in note for note in notes)
    assert any("config.pbtxt is not read" in note for note in notes)
    assert list(find_models([tmp_path / "b/1/model.onnx/model.onnx"]).models) == ["b"]
    assert list(find_models([tmp_path / "a"]).models) == ["a"]


def test_further_down_only_when_asked(tmp_path: Path) -> None:
    touch(tmp_path, "en/alexa.onnx", "de/x/hallo.onnx", "top.onnx")
    assert found(tmp_path) == {"top": "top.onnx"}
    assert "not searched without --recursive: en" in "".join(find_models([tmp_path]).notes)
    assert set(found(tmp_path, recursive=True)) == {"alexa", "hallo", "top"}
    with pytest.raises(ConfigError, match=r"no \.onnx or \.pt2 file in it.*--recursive"):
        find_models([tmp_path / "de"])


def test_names_that_clash_are_an_error_with_both_files(tmp_path: Path) -> None:
    touch(tmp_path, "en/alexa.onnx", "de/alexa.onnx", "fr/alexa/1/model.onnx")
    with pytest.raises(ConfigError, match=r"'alexa'.*de/alexa\.onnx and .*en/alexa\.onnx"):
        find_models([tmp_path], recursive=True)
    names = set(found(tmp_path, recursive=True, by=NameFrom.PATH))
    assert names == {"en/alexa", "de/alexa", "fr/alexa"}


def test_the_same_file_twice_is_one_model(tmp_path: Path) -> None:
    touch(tmp_path, "a.onnx")
    assert found(tmp_path, tmp_path / "a.onnx") == {"a": "a.onnx"}


def test_foreign_formats_are_named_not_dropped_in_silence(tmp_path: Path) -> None:
    touch(tmp_path, "a.onnx", "b.tflite", "c.pth", "a.onnx.data")
    (note,) = find_models([tmp_path]).notes
    assert note.endswith("left out: b.tflite, c.pth")


@pytest.mark.parametrize(
    ("name", "match"),
    [("missing.onnx", "no such file"), ("a.txt", r"'\.txt'; wanted \.onnx or"), ("", "no .onnx")],
)
def test_what_is_no_model_is_refused(name: str, match: str, tmp_path: Path) -> None:
    touch(tmp_path, "a.txt")
    with pytest.raises(ConfigError, match=match):
        find_models([tmp_path / name])


def test_links_that_loop_end(tmp_path: Path) -> None:
    touch(tmp_path, "sub/a.onnx")
    (tmp_path / "sub" / "again").symlink_to(tmp_path)
    assert found(tmp_path, recursive=True) == {"a": "sub/a.onnx"}
