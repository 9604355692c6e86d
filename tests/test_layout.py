"""The layout rules: links, packages, one-way imports, laziness, file length, docstrings."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import fusec

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("kernels", "passes", "runtime")
SOURCES = ("fusec", *PARTS)
pytestmark = pytest.mark.skipif(not (ROOT / "passes").is_dir(), reason="not a checkout")

# Which first-party packages each layer may import; what is under none of them is the top: the API,
# the CLI, the artifact, the demo. The longest matching name counts.
LAYERS = {
    "fusec.ir": ("fusec.ir",),
    "fusec.kernels": ("fusec.ir", "fusec.kernels"),
    "fusec.passes": ("fusec.ir", "fusec.kernels", "fusec.passes"),
    "fusec.runtime": ("fusec.ir", "fusec.kernels", "fusec.runtime"),
    "fusec.importers": ("fusec.ir", "fusec.kernels", "fusec.passes", "fusec.importers"),
}
# Packages that cost seconds or are optional, and who may import them at the top of a module.
ONNX_HOMES = ("fusec.importers.onnx", "fusec.onnx_backend")
FUNCTIONS_ONLY = ("sklearn", "onnxruntime", "onnxscript")


def modules() -> Iterator[tuple[str, Path]]:
    """Yield name and file of every module, each file once."""
    for part in SOURCES:
        for path in sorted((ROOT / part).rglob("*.py")):
            where = path.relative_to(ROOT).with_suffix("").parts
            name = where if part == "fusec" else ("fusec", *where)
            yield ".".join(name[:-1] if name[-1] == "__init__" else name), path


def imports(tree: ast.AST) -> Iterator[tuple[str, ast.stmt]]:
    """Yield each imported name, ``from a import b`` as ``a.b``, with its statement."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((f"{node.module or ''}.{alias.name}", node) for alias in node.names)


def under(name: str, prefixes: tuple[str, ...]) -> bool:
    """Return whether `name` is one of `prefixes` or inside one."""
    return any(name == prefix or name.startswith(prefix + ".") for prefix in prefixes)


def misplaced(name: str, source: str) -> list[str]:
    """Return the imports of one module that its layer does not allow."""
    layer = max((layer for layer in LAYERS if under(name, (layer,))), key=len, default=None)
    wrong = []
    for imported, node in imports(ast.parse(source)):
        first = imported.split(".")[0]
        if layer and first == "fusec" and not under(imported, LAYERS[layer]):
            wrong.append(f"{name}:{node.lineno}: {imported} is above {layer}")
        at_top = node.col_offset == 0
        if layer == "fusec.ir" and first not in {*sys.stdlib_module_names, "numpy", "fusec"}:
            wrong.append(f"{name}:{node.lineno}: {imported} in the ground floor")
        if first == "onnx" and at_top and not under(name, ONNX_HOMES):
            wrong.append(f"{name}:{node.lineno}: {imported} at the top of the module")
        if first in FUNCTIONS_ONLY and at_top:
            wrong.append(f"{name}:{node.lineno}: {imported} at the top of the module")
    return wrong


def test_the_walk_sees_every_part() -> None:
    names = {name for name, _ in modules()}
    assert {"fusec", "fusec.ir.errors", *(f"fusec.{part}" for part in PARTS)} <= names


@pytest.mark.parametrize("part", PARTS)
def test_links_are_relative_symlinks(part: str) -> None:
    """A checkout without symlink support leaves a text file in the link's place."""
    link = ROOT / "fusec" / part
    assert link.is_symlink(), f"{link}: set core.symlinks=true in git and check out again"
    assert link.readlink() == Path("..") / part


@pytest.mark.parametrize("part", SOURCES)
def test_every_python_directory_is_a_package(part: str) -> None:
    """A directory without __init__.py works in a checkout and is left out of the wheel."""
    folders = {py.parent for py in (ROOT / part).rglob("*.py")}
    assert [str(d) for d in folders if not (d / "__init__.py").is_file()] == []


@pytest.mark.parametrize("top", [*SOURCES, "tests", "bench"])
def test_source_never_names_a_twin(top: str) -> None:
    """`import passes` works from the repository root and doubles every class."""
    for py in (ROOT / top).rglob("*.py"):
        for node in ast.walk(ast.parse(py.read_text())):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{py}: relative import"
                names = [node.module or ""]
            assert not {name.split(".")[0] for name in names} & set(PARTS), f"{py}: {names}"


@pytest.mark.parametrize("part", PARTS)
def test_a_twin_does_not_import(part: str) -> None:
    code = f"import {part}"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert f"import fusec.{part}" in run.stderr


def test_importing_everything_makes_no_twin() -> None:
    """Walk the package in a clean interpreter started in the repository root."""
    code = (
        "import importlib, pkgutil, sys, fusec\n"
        "for m in pkgutil.walk_packages(fusec.__path__, 'fusec.'):\n"
        "    if m.name.endswith('__main__'): continue\n"
        "    try: importlib.import_module(m.name)\n"
        "    except ModuleNotFoundError as e:\n"
        "        if e.name != 'triton': raise\n"
        f"assert not set(sys.modules) & set({PARTS!r})\n"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def test_import_is_lazy() -> None:
    """`import fusec` must not cost the import of PyTorch, and must offer its public names."""
    heavy = {"torch", "onnx", "numba", "sklearn", "onnxruntime", "rich", "typer", "triton"}
    code = (
        "import sys, fusec\n"
        "print(dir(fusec), fusec.__version__)\n"
        f"sys.exit(str(set(sys.modules) & {heavy!r}) if set(sys.modules) & {heavy!r} else 0)\n"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "'compile'" in run.stdout
    assert "'load'" in run.stdout


def test_imports_go_one_way() -> None:
    assert [line for name, path in modules() for line in misplaced(name, path.read_text())] == []


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("fusec.ir.template", "import torch"),
        ("fusec.ir.template", "from fusec import kernels"),
        ("fusec.kernels.rnn.op", "import fusec.passes.program"),
        ("fusec.runtime.engine", "from fusec.passes import key"),
        ("fusec.runtime.engine", "def f():\n    from fusec.passes import key"),
        ("fusec.passes.key", "from fusec.importers import nn"),
        ("fusec.passes.key", "import onnx"),
        ("fusec.demo", "import sklearn.datasets"),
    ],
)
def test_a_misplaced_import_is_seen(name: str, source: str) -> None:
    assert misplaced(name, source) != []


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("fusec.ir.template", "import json\nimport numpy as np\nfrom fusec.ir import errors"),
        ("fusec.importers.onnx.load", "import onnx\nfrom fusec.passes.program import Program"),
        ("fusec.demo", "def f():\n    import sklearn.datasets"),
        ("fusec.plan", "from fusec.runtime import engine\nfrom fusec.passes import key"),
    ],
)
def test_a_proper_import_passes(name: str, source: str) -> None:
    assert misplaced(name, source) == []


def test_no_file_is_longer_than_400_lines() -> None:
    files = [p for top in (*SOURCES, "tests", "bench", "tools") for p in (ROOT / top).rglob("*.py")]
    long = {str(p): n for p in files if (n := len(p.read_text().splitlines())) > 400}
    assert long == {}


def public_objects() -> Iterator[tuple[str, object]]:
    """Yield every public module, class, function and method of the package."""
    for found in pkgutil.walk_packages(fusec.__path__, "fusec."):
        if found.name.endswith("__main__"):
            continue
        try:
            module = importlib.import_module(found.name)
        except ModuleNotFoundError as error:
            # Triton is only there for some machines.
            if error.name != "triton":
                raise
            continue
        yield found.name, module
        for name, value in vars(module).items():
            if name.startswith("_") or getattr(value, "__module__", None) != found.name:
                continue
            if inspect.isclass(value) or inspect.isfunction(value):
                yield f"{found.name}.{name}", value
            if inspect.isclass(value):
                for method, body in vars(value).items():
                    if inspect.isfunction(body) and not method.startswith("_"):
                        yield f"{found.name}.{name}.{method}", body


def test_every_public_name_has_a_docstring() -> None:
    found = dict(public_objects())
    assert "fusec.ir.errors.ConfigError" in found
    assert [name for name, value in found.items() if not inspect.getdoc(value)] == []


def test_no_address_of_a_package_registry() -> None:
    """Packages come from whatever the reader's pip is set up to use."""
    words = ("pypi" + ".org", "python" + "hosted", "download." + "pytorch", "index-" + "url")
    run = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if run.returncode:
        pytest.skip("not a git checkout")
    paths = [ROOT / name for name in run.stdout.split("\0") if name]
    for path in paths:
        if path.is_file() and not path.is_symlink():
            text = path.read_bytes().decode("utf-8", errors="ignore")
            assert not [word for word in words if word in text], path


def test_wheel_holds_every_source_as_a_real_file(tmp_path: Path) -> None:
    """Built from a copy, so that no build folder is left or used."""
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        (copy / name).write_bytes((ROOT / name).read_bytes())
    for part in SOURCES:
        (copy / part).symlink_to(ROOT / part)
    cmd = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q"]
    subprocess.run([*cmd, "-w", str(tmp_path), str(copy)], check=True)
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        infos = {i.filename: i for i in wheel.infolist() if ".dist-info/" not in i.filename}
    expected = {
        f"fusec/{path.relative_to(ROOT / 'fusec') if part == 'fusec' else path.relative_to(ROOT)}"
        for part in SOURCES
        for path in (ROOT / part).rglob("*")
        if path.suffix in (".py", ".css", ".js")
    }
    assert {name for name in infos if name.endswith((".py", ".css", ".js"))} == expected
    assert "fusec/py.typed" in infos
    assert all((info.external_attr >> 28) == 0o10 for info in infos.values()), "symlink in wheel"
