"""What ships beside the server: the page's tables are the code's, manifests and image start it."""

import re
import tomllib
from collections.abc import Mapping
from inspect import signature
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
from fusec_testing.counted import counted
from fusec_testing.serving import DOUBLES

import fusec.server
from fusec.ir.errors import FusecError
from fusec.server.configread import config_of_text
from fusec.server.configtypes import CONFIG, SCHEMA
from fusec.server.metrics import render
from fusec.server.models import Model, Table, Version
from fusec.server.settings import Settings, read_settings
from fusec.server.signature import check_config

yaml = pytest.importorskip("yaml")
DEPLOY = Path(fusec.server.__file__).parent / "deploy"
ROOT = Path(__file__).resolve().parents[2]
PAGE = (DEPLOY / "MOVING_FROM_TRITON.md").read_text()
HONOURED, NO_EFFECT, REFUSED = "honoured", "no effect", "refused"


def table(section: str) -> dict[str, str]:
    """Read a table of the page: what its first column names in code, and the second."""
    text = PAGE.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    rows = [
        line.strip("| ").split(" | ", 1) for line in text.splitlines() if line.startswith("| `")
    ]
    found = {}
    for first, second in rows:
        for name in re.findall(r"`([^`]+)`", first):
            assert name not in found, name
            found[name] = second
    return found


class Seen(dict[str, Any]):
    """A configuration that knows which of its fields were looked at."""

    def __init__(self, given: Mapping[str, Any], path: str, seen: set[str]) -> None:
        super().__init__({k: self._wrapped(v, f"{path}{k}", seen) for k, v in given.items()})
        self._path, self._seen = path, seen

    def _wrapped(self, value: Any, path: str, seen: set[str]) -> Any:
        if isinstance(value, dict):
            return Seen(value, f"{path}.", seen)
        if isinstance(value, list):
            return [self._wrapped(v, path, seen) for v in value]
        return value

    def get(self, key: str, default: Any = None) -> Any:
        self._seen.add(f"{self._path}{key}")
        return super().get(key, default)

    def __getitem__(self, key: str) -> Any:
        self._seen.add(f"{self._path}{key}")
        return super().__getitem__(key)

    def __contains__(self, key: object) -> bool:
        self._seen.add(f"{self._path}{key}")
        return super().__contains__(key)


FULL = """
name: "m" platform: "onnxruntime_onnx" backend: "onnxruntime" max_batch_size: 8
input [ { name: "x" data_type: TYPE_FP32 dims: [ 4 ] } ]
output [
  { name: "y" data_type: TYPE_FP32 dims: [ 4 ] label_filename: "labels.txt" },
  { name: "n" data_type: TYPE_INT64 }
]
version_policy { latest { num_versions: 2 } }
dynamic_batching {
  priority_levels: 2 default_priority_level: 1
  default_queue_policy {
    timeout_action: DELAY default_timeout_microseconds: 1 allow_timeout_override: true
    max_queue_size: 3
  }
  priority_queue_policy { key: 1 value { max_queue_size: 5 } }
}
default_model_filename: "model.onnx"
parameters { key: "tenant" value { string_value: "ann" } }
model_warmup [ {
  name: "w" batch_size: 1 count: 2
  inputs { key: "x" value { data_type: TYPE_FP32 dims: [ 4 ] input_data_file: "x" } }
} ]
model_transaction_policy { decoupled: false }
"""
REFUSALS = {
    "sequence_batching": "sequence_batching { }",
    "ensemble_scheduling": "ensemble_scheduling { }",
    "model_transaction_policy.decoupled": "model_transaction_policy { decoupled: true }",
    "input.reshape": 'input [ { name: "x" data_type: TYPE_FP32 dims: [ 4 ] reshape { } } ]',
    "output.reshape": 'output [ { name: "y" data_type: TYPE_FP32 dims: [ 4 ] reshape { } } ]',
}


def looked_at() -> set[str]:
    """Find the fields that anything here depends on, by reading a file that has them."""
    config = config_of_text(FULL, "f", pytest.fail)
    seen: set[str] = set()
    watched = Seen(config, "", seen)
    read_settings(watched, "m")
    check_config(watched, DOUBLES, "m")
    for all_of_it in ("version_policy { all { } }", "version_policy { specific { versions: 1 } }"):
        read_settings(Seen(config_of_text(all_of_it, "f", pytest.fail), "", seen), "m")
    return seen


def paths(message: str = CONFIG, before: str = "") -> set[str]:
    """Name all fields of a configuration that hold no further ones."""
    found = set()
    for name, field in SCHEMA.messages[message].items():
        path = f"{before}{name}"
        inner = SCHEMA.messages.get(field.type)
        found |= paths(field.type, f"{path}.") if inner else {path}
    return found


def classified() -> dict[str, str]:
    """Say of each field what becomes of it, those of a message together where it is the same."""
    seen = looked_at()
    # Maps have keys of their own between.
    seen = {re.sub(r"\.(1|tenant|x)\b", "", path) for path in seen}
    found = {path: HONOURED if path in seen else NO_EFFECT for path in paths()}
    found |= dict.fromkeys(REFUSALS, REFUSED)
    found = {
        p: w for p, w in found.items() if not p.startswith(("input.reshape.", "output.reshape."))
    }
    for top in {path.partition(".")[0] for path in found}:
        inner = {p: w for p, w in found.items() if p.startswith(f"{top}.")}
        if len(set(inner.values())) == 1:
            found = {p: w for p, w in found.items() if p not in inner}
            found[top] = next(iter(inner.values()))
    return found


def test_fields_of_configurations_are_as_the_page_says() -> None:
    assert {
        name: text.split(":")[0].split(";")[0] for name, text in table("config.pbtxt").items()
    } == (classified())


@pytest.mark.parametrize("field", REFUSALS)
def test_what_the_page_calls_refused_is_refused(field: str) -> None:
    with pytest.raises(FusecError):
        config = config_of_text(REFUSALS[field], "f", pytest.fail)
        read_settings(config, "m")
        check_config(config, DOUBLES, "m")


def options() -> dict[str, bool]:
    """Find the command's options, and whether they are hidden."""
    from fusec.cli.serve_command import serve_models

    found: dict[str, bool] = {}
    hints = get_type_hints(serve_models, include_extras=True)
    for name in signature(serve_models).parameters:
        made = get_args(hints[name])[1] if get_args(hints[name]) else None
        if type(made).__name__ == "ArgumentInfo":
            continue
        # Typer takes the first name that it is given for a default.
        given = [getattr(made, "default", None), *(getattr(made, "param_decls", None) or ())]
        names = [n for n in given if isinstance(n, str)] or [f"--{name.replace('_', '-')}"]
        found |= dict.fromkeys(names, bool(getattr(made, "hidden", False)))
    return found


def test_flags_are_as_the_page_says() -> None:
    told = table("Flags")
    known = options()
    assert not told.keys() - known.keys()
    assert {name for name, text in told.items() if text == NO_EFFECT} == {
        name for name, hidden in known.items() if hidden
    }
    aliases = {name for text in told.values() for name in re.findall(r"`(--[a-z-]+)`", text)}
    assert not aliases - known.keys()


def test_metrics_are_as_the_page_says() -> None:
    version = Version(1, "m", DOUBLES, None)
    served = Table()
    served.models["m"] = Model(
        name="m", config={}, settings=Settings(), versions={1: version}, failed={}, print=None
    )
    text = render(served, counted().stats().to_json())
    told = table("Metrics")
    there = {name for name, what in told.items() if what == "the same"}
    rendered = set(re.findall(r"^# TYPE (\S+)", text, re.MULTILINE))
    assert {name for name in rendered if name.startswith("nv_")} == there
    assert not (told.keys() - there) & rendered
    own = set(re.findall(r"`(fusec_[a-z_]+)`", PAGE))
    assert own == {name for name in rendered if name.startswith("fusec_")}
    for label in ("result", "tenant", "cache"):
        assert re.search(rf"by `{label}`", PAGE) and re.search(rf"^fusec_\w+{{{label}=", text, re.M)


def started(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Give the options with which a command line would start a server."""
    from fusec.cli.app import app

    given: list[Any] = []

    async def serve(options: Any, store: Any, say: Any) -> None:
        given.append(options)

    monkeypatch.setattr("fusec.server.running.serve", serve)
    with pytest.raises(SystemExit) as caught:
        app(arguments)
    assert caught.value.code in (None, 0)
    return given[0]


def container(name: str) -> dict[str, Any]:
    """Give the container of a manifest."""
    made = yaml.safe_load((DEPLOY / name).read_text())
    assert made["kind"] == "ClusterServingRuntime"
    (found,) = made["spec"]["containers"]
    return dict(found)


TRITONS = [
    "tritonserver",
    "--model-store=/mnt/models",
    "--grpc-port=9000",
    "--http-port=8080",
    "--allow-grpc=true",
    "--allow-http=true",
]


@pytest.mark.parametrize("whose", ["ours", "tritons", "both"])
def test_manifests_start_a_server(whose: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = container("serving-runtime.yaml")["args"]
    service = yaml.safe_load((DEPLOY / "inference-service.yaml").read_text())
    more = service["spec"]["predictor"]["model"]["args"]
    command = {"ours": ours, "tritons": ["fusec", "serve", *TRITONS[1:]], "both": [*ours, *more]}
    program, *arguments = command[whose]
    assert program == "fusec"
    options = started(arguments, monkeypatch)
    assert options.repositories == [Path("/mnt/models")]
    assert (options.http_port, options.grpc_port, options.metrics_port) == (8080, 9000, 8002)
    assert options.host == "0.0.0.0"
    assert options.tenant_header == ("X-Tenant" if whose == "both" else None)
    assert set(TRITONS[1:]) <= set(ours)


def test_manifests_agree_with_the_server_and_each_other() -> None:
    runtime = yaml.safe_load((DEPLOY / "serving-runtime.yaml").read_text())
    service = yaml.safe_load((DEPLOY / "inference-service.yaml").read_text())
    model = service["spec"]["predictor"]["model"]
    assert model["runtime"] == runtime["metadata"]["name"]
    assert model["protocolVersion"] in runtime["spec"]["protocolVersions"]
    formats = {(f["name"], f["version"]) for f in runtime["spec"]["supportedModelFormats"]}
    assert (model["modelFormat"]["name"], model["modelFormat"]["version"]) in formats
    made = container("serving-runtime.yaml")
    for probe in ("readinessProbe", "livenessProbe"):
        asked = made[probe]["httpGet"]
        assert f"--http-port={asked['port']}" in made["args"]
        assert asked["path"] in ("/v2/health/live", "/v2/health/ready")
    assert made["securityContext"]["runAsNonRoot"] is True
    grace = service["spec"]["predictor"]["terminationGracePeriodSeconds"]
    from fusec.server.running import Options

    assert grace > Options().delay_s + Options().exit_s


def instructions() -> list[tuple[str, str]]:
    """Read the Dockerfile: words and what they are given, lines joined."""
    text = (DEPLOY / "Dockerfile").read_text()
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    whole = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(w, rest) for w, _, rest in (line.partition(" ") for line in whole.splitlines()) if w]


def test_the_image_is_built_of_what_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = instructions()
    words = [
        "FROM",
        "ARG",
        "RUN",
        "COPY",
        "ENV",
        "USER",
        "EXPOSE",
        "HEALTHCHECK",
        "STOPSIGNAL",
        "CMD",
    ]
    # No ENTRYPOINT: the first word of a manifest's own command is the program.
    assert {word for word, _ in steps} <= set(words)
    for word, rest in steps:
        if word == "COPY" and not rest.startswith("--from=build"):
            for source in rest.split()[:-1]:
                assert source == "dist/*.whl" or (ROOT / source).exists(), source
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (extras,) = [rest.partition("=")[2] for word, rest in steps if rest.startswith("EXTRAS=")]
    assert set(extras.split(",")) <= set(project["optional-dependencies"])
    assert f"fusec:{project['version']}" in (DEPLOY / "Dockerfile").read_text()
    (user,) = [rest for word, rest in steps if word == "USER"]
    assert user.split(":")[0] not in ("0", "root")
    assert steps.index(("USER", user)) > [w for w, _ in steps].index("RUN")
    (made,) = re.findall(r"mkdir -m 1777 (\S+)", dict(steps)["RUN"])
    (kernels,) = re.findall(r"FUSEC_CACHE_DIR=(\S+)", dict(steps)["ENV"])
    # Nothing is read from a folder that others can write to, so it is one inside.
    assert Path(kernels).parent == Path(made)
    (command,) = [yaml.safe_load(rest) for word, rest in steps if word == "CMD"]
    assert command[0] in project["scripts"]
    options = started(command[1:], monkeypatch)
    assert options.repositories == [Path("/models")]
    (ports,) = [rest.split() for word, rest in steps if word == "EXPOSE"]
    assert [int(p) for p in ports] == [options.http_port, options.grpc_port, options.metrics_port]


def test_the_image_tells_whether_it_is_ready() -> None:
    (check,) = [rest for word, rest in instructions() if word == "HEALTHCHECK"]
    program, flag, code = yaml.safe_load(check.partition("CMD ")[2])
    assert (program, flag) == ("python", "-c")
    compile(code, "health", "exec")
    assert "127.0.0.1:8000/v2/health/ready" in code


def test_what_ships_is_named_in_the_page() -> None:
    for path in DEPLOY.iterdir():
        assert path.name in PAGE or path.suffix == ".md", path.name
