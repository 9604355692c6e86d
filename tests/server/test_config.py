"""config.pbtxt and JSON configurations: what is read, what warns, what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
from fusec_testing.mutate import mutations
from fusec_testing.serving import DOUBLES
from hypothesis import given, settings
from hypothesis import strategies as st

from fusec.ir.errors import ConfigError, FusecError
from fusec.server.configread import config_of_json, config_of_text
from fusec.server.configtypes import SCHEMA
from fusec.server.describing import model_config
from fusec.server.models import Model, Version
from fusec.server.pbtxt import parse_text
from fusec.server.settings import Settings, read_settings
from fusec.server.signature import check_config

FULL = r"""
# A file with most of what such files have.
name: "m"
backend: "onnxruntime"
max_batch_size: 32
input [ { name: "x" data_type: TYPE_FP32 dims: [ 4 ] } ]
output [
  { name: "y", data_type: TYPE_FP32, dims: [ 4 ] },
  { name: "n" data_type: TYPE_INT64 dims: [] }
]
dynamic_batching {
  preferred_batch_size: [ 8, 16 ]
  max_queue_delay_microseconds: 1000
  priority_levels: 3
  default_priority_level: 2
  default_queue_policy {
    timeout_action: REJECT default_timeout_microseconds: 500000
    allow_timeout_override: true max_queue_size: 256
  }
  priority_queue_policy [
    { key: 1 value: { timeout_action: DELAY } },
    { key: 3 value: { default_timeout_microseconds: 1000 } }
  ]
}
instance_group [ { kind: KIND_CPU count: 1
  rate_limiter { resources [ { name: "CORE" global: true count: 1 } ] priority: 1 } } ]
model_warmup [ { name: 'w1' batch_size: 1
  inputs { key: "x" value { data_type: TYPE_FP32 dims: [ 4 ] random_data: true } } } ]
version_policy: { specific: { versions: [ 1, 3 ] } }
parameters { key: "tenant" value: { string_value: "an" "n" } }
parameters: { key: "slo_ms" value: { string_value: "2\x30" } }
optimization < priority: PRIORITY_MAX; >
"""

FIELDS = sorted(SCHEMA.messages["ModelConfig"])


def read(text: str, warn: Any = None) -> dict[str, Any]:
    warnings: list[str] = []
    config = config_of_text(text, "config.pbtxt", warn or warnings.append)
    assert not warnings
    return config


def settings_of(text: str) -> Settings:
    return read_settings(read(text), "m")


def test_a_file_with_most_of_it() -> None:
    config = read(FULL)
    assert config["input"] == [{"name": "x", "data_type": "TYPE_FP32", "dims": [4]}]
    assert config["output"][1] == {"name": "n", "data_type": "TYPE_INT64"}
    assert config["dynamic_batching"]["preferred_batch_size"] == [8, 16]
    assert config["optimization"] == {"priority": "PRIORITY_MAX"}
    assert config["parameters"]["tenant"] == {"string_value": "ann"}
    found = read_settings(config, "m")
    assert (found.tenant, found.slo_ms, found.max_batch_size) == ("ann", 20.0, 32)
    assert (found.levels, found.default_level) == (3, 2)
    assert found.queue.timeout_us == 500_000
    assert found.queue.override
    assert found.policy(1).delay
    assert found.policy(3).timeout_us == 1000
    assert found.policy(2) is found.queue
    assert found.warmups[0].inputs[0].source == "random_data"


def test_json_means_the_same_as_text() -> None:
    text = read(FULL)
    assert config_of_json(json.loads(json.dumps(text)), "load", pytest.fail) == text
    strings = config_of_json(
        {"version_policy": {"specific": {"versions": ["3"]}}}, "x", pytest.fail
    )
    assert strings == {"version_policy": {"specific": {"versions": [3]}}}


def test_what_is_not_known_warns_and_nothing_else() -> None:
    said: list[str] = []
    config = config_of_text('name: "m" \n future { a: 1 b { c: "x" } }', "f", said.append)
    assert config == {"name": "m"}
    assert said == ["f:2: 'future' is not known here and has no effect"]


REFUSED = {
    "ensembles": "ensemble_scheduling { step [ ] }",
    "state": "sequence_batching { }",
    "another name": 'name: "other"',
    "another backend": 'backend: "python"',
    "another platform": 'platform: "tensorrt_plan"',
    "decoupled": "model_transaction_policy { decoupled: true }",
    "negative batch": "max_batch_size: -1",
    "no level": "dynamic_batching { priority_levels: 2 }",
    "level too high": "dynamic_batching { priority_levels: 2 default_priority_level: 3 }",
    "no versions": "version_policy { latest { num_versions: 0 } }",
    "two policies": "version_policy { latest { } all { } }",
    "set twice": 'name: "m" name: "m"',
    "slo no number": 'parameters { key: "slo_ms" value { string_value: "soon" } }',
    "slo negative": 'parameters { key: "slo_ms" value { string_value: "-1" } }',
    "file elsewhere": 'default_model_filename: "../../secret"',
    "number for a string": "name: 3",
    "string for a number": 'max_batch_size: "3"',
    "fraction for a number": "max_batch_size: 3.5",
    "beyond 32 bits": "max_batch_size: 4294967296",
    "negative unsigned": "dynamic_batching { priority_levels: -2 }",
    "unknown enum": "input { data_type: TYPE_FP8 }",
    "message for a value": "max_batch_size { }",
    "value for a message": "dynamic_batching: 3",
    "map without key": "parameters { value { } }",
    "open": "input [ { name: ",
    "open string": 'name: "m',
    "closed twice": "input { } }",
    "no name": ": 3",
    "no comma": "input [ { } { } ]",
    "no text format": "<?xml version='1.0'?>",
    "deep": "a {" * 5000,
    "control characters": "\0\0\0",
}


@pytest.mark.parametrize("why", REFUSED)
def test_what_cannot_be_served_is_refused(why: str) -> None:
    with pytest.raises(FusecError) as caught:
        read_settings(config_of_text(REFUSED[why], "f", lambda _: None), "m")
    assert len(str(caught.value)) < 500


def test_errors_name_the_line() -> None:
    with pytest.raises(ConfigError, match="f:3: max_batch_size wants int32"):
        config_of_text('name: "m"\n\nmax_batch_size: lots', "f", pytest.fail)


@pytest.mark.parametrize(
    ("policy", "chosen"),
    [
        ("", [7]),
        ("version_policy { latest { num_versions: 2 } }", [3, 7]),
        ("version_policy { all { } }", [1, 3, 7]),
        ("version_policy { specific { versions: [ 1, 2 ] } }", [1]),
    ],
)
def test_version_policies(policy: str, chosen: list[int]) -> None:
    assert settings_of(policy).chosen([3, 7, 1]) == chosen


def test_levels_of_priority() -> None:
    found = settings_of("dynamic_batching { priority_levels: 3 default_priority_level: 2 }")
    assert [found.level(asked) for asked in (0, 1, 3, 9)] == [2, 1, 3, 3]
    assert settings_of("").level(5) == 0


@settings(max_examples=40)
@given(st.integers(0, 2**32))
def test_mutations_are_read_or_refused(seed: int) -> None:
    for text in mutations(FULL.encode(), seed, 50):
        try:
            config = config_of_text(text.decode("latin-1"), "f", lambda _: None)
            read_settings(config, "m")
        except FusecError:
            continue


@settings(max_examples=100)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(sorted(SCHEMA.messages["ModelConfig"])), inner, max_size=4
            )
        ),
        max_leaves=15,
    )
)
def test_any_json_is_read_or_refused(value: Any) -> None:
    try:
        read_settings(config_of_json(value, "load", lambda _: None), "m")
    except FusecError:
        return


def test_any_depth_of_text_ends() -> None:
    with pytest.raises(ConfigError, match="deep"):
        parse_text("a [" + "{ a: [" * 100, "f")


@pytest.mark.parametrize(
    "text",
    [
        'input { name: "z" data_type: TYPE_FP32 dims: [4] }',
        'input { name: "x" data_type: TYPE_INT32 dims: [4] }',
        'input { name: "x" data_type: TYPE_FP32 dims: [5] }',
        'input { name: "x" data_type: TYPE_FP32 dims: [-1, 4] }',
        'input { name: "x" data_type: TYPE_FP32 dims: [4] reshape { shape: [2, 2] } }',
        'output { name: "z" data_type: TYPE_FP32 dims: [4] }',
    ],
)
def test_configurations_of_other_models_are_refused(text: str) -> None:
    with pytest.raises(FusecError):
        check_config(read("max_batch_size: 8 " + text), DOUBLES, "m")


def test_what_a_configuration_leaves_out_is_the_models() -> None:
    config = read('max_batch_size: 8 input { name: "x" data_type: TYPE_FP32 dims: [-1] }')
    check_config(config, DOUBLES, "m")
    version = Version(1, "k", DOUBLES, None)
    model = Model(
        name="m",
        config=config,
        settings=read_settings(config, "m"),
        versions={1: version},
        failed={},
        print=None,
    )
    full = model_config(model, version)
    assert full["input"] == config["input"]
    assert full["output"] == [
        {"name": "y", "data_type": "TYPE_FP32", "dims": [4]},
        {"name": "n", "data_type": "TYPE_INT64", "dims": []},
    ]
    assert (full["name"], full["max_batch_size"]) == ("m", 8)


def test_field_numbers_are_those_of_clients() -> None:
    """Compared with the types of a client library, message by message from the configuration on."""
    theirs = pytest.importorskip("tritonclient.grpc.model_config_pb2").DESCRIPTOR
    todo = [("ModelConfig", theirs.message_types_by_name["ModelConfig"])]
    seen = set()
    while todo:
        name, message = todo.pop()
        if name in seen:
            continue
        seen.add(name)
        for field in SCHEMA.messages[name].values():
            other = message.fields_by_name[field.name]
            assert other.number == field.number, (name, field.name)
            value = other
            if field.key is not None:
                value = other.message_type.fields_by_name["value"]
            if field.type in SCHEMA.messages:
                todo.append((field.type, value.message_type))
            elif field.type in SCHEMA.enums:
                assert {v.name: v.number for v in value.enum_type.values} == SCHEMA.enums[
                    field.type
                ]
            assert other.is_repeated == (field.repeated or field.key is not None)
    assert len(seen) > 20


def test_paths_are_no_surprise(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="plain file name"):
        settings_of('model_warmup { inputs { key: "x" value { input_data_file: "/etc/passwd" } } }')
