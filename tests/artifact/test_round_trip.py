"""What is written comes back: every field, every bit, mapped in place."""

import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fusec_testing.plans import assert_plans_equal, example_plan, plans
from hypothesis import HealthCheck, given, settings

from fusec.artifact import read_plan, read_plan_file, write_plan
from fusec.ir.errors import VerifyError
from fusec.ir.plan import Blob, PlanData, blob_hash, plain_blob
from fusec.ir.stage import Layout, LayoutKind, plain_layout
from fusec.ir.template import Ref, TensorSpec

FUNCTION_FIXTURE = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


@settings(suppress_health_check=FUNCTION_FIXTURE)
@given(plan=plans())
def test_any_plan_comes_back_equal(plan: PlanData, tmp_path: Path) -> None:
    write_plan(plan, tmp_path / "a.fusec")
    assert_plans_equal(read_plan(tmp_path / "a.fusec"), plan)


def test_equal_plans_give_equal_files(tmp_path: Path) -> None:
    write_plan(example_plan(), tmp_path / "a.fusec")
    write_plan(read_plan(tmp_path / "a.fusec"), tmp_path / "b.fusec")
    assert (tmp_path / "a.fusec").read_bytes() == (tmp_path / "b.fusec").read_bytes()


def test_special_floats_keep_their_kind(tmp_path: Path) -> None:
    plan = example_plan()
    (template,) = plan.templates.values()
    (form,) = plan.forms.values()
    row = replace(
        template.body.rows[0], kwargs=(("a", math.nan), ("b", -0.0), ("c", 1), ("d", 1.0))
    )
    template = replace(template, body=replace(template.body, rows=(row,)))
    plan = replace(
        plan,
        templates={template.key: template},
        forms={"form": replace(form, template=template.key)},
    )
    write_plan(plan, tmp_path / "a.fusec")
    back = read_plan(tmp_path / "a.fusec").templates[template.key].body.rows[0].kwargs
    assert repr(back) == "(('a', nan), ('b', -0.0), ('c', 1), ('d', 1.0))"


def test_weights_are_aligned_read_only_views_of_the_file(tmp_path: Path) -> None:
    write_plan(example_plan(), tmp_path / "a.fusec")
    for blob in read_plan(tmp_path / "a.fusec").weights.values():
        assert blob.data.readonly
        assert np.frombuffer(blob.data, np.uint8).ctypes.data % 64 == 0
        assert type(blob.data.obj).__name__ == "mmap"


def test_sections_come_back(tmp_path: Path) -> None:
    profile, explain = {"stage": [1, 2.5, None]}, {"groups": ["ü", ""]}
    write_plan(example_plan(), tmp_path / "a.fusec", profile=profile, explain=explain)
    file = read_plan_file(tmp_path / "a.fusec")
    assert (file.profile, file.explain) == (profile, explain)


def test_nothing_of_a_plan_that_breaks_its_rules_is_written(tmp_path: Path) -> None:
    plan = example_plan()
    (template,) = plan.templates.values()
    wrong = replace(template, body=replace(template.body, results=(Ref(99),)))
    with pytest.raises(VerifyError, match=r"reference 99 .*5 earlier values"):
        write_plan(replace(plan, templates={wrong.key: wrong}), tmp_path / "a.fusec")
    with pytest.raises(VerifyError, match="JSON"):
        write_plan(plan, tmp_path / "a.fusec", profile=math.nan)
    assert os.listdir(tmp_path) == []


def test_a_large_plan_is_checked_in_threads_with_the_same_result(tmp_path: Path) -> None:
    spec = TensorSpec("uint8", (1 << 26,))
    data = memoryview(np.zeros(1 << 26, dtype=np.uint8)).cast("B")
    plan = replace(
        example_plan(), weights={blob_hash(spec, data): plain_blob(spec, data)}, members={}
    )
    write_plan(plan, tmp_path / "a.fusec")
    assert list(read_plan(tmp_path / "a.fusec").weights) == list(plan.weights)


def test_reading_a_plan_imports_no_framework(tmp_path: Path) -> None:
    write_plan(example_plan(), tmp_path / "a.fusec")
    code = (
        "import sys; from fusec.artifact import read_plan\n"
        f"read_plan({str(tmp_path / 'a.fusec')!r})\n"
        "print(sorted({'torch', 'onnx', 'numba', 'rich', 'typer'} & set(sys.modules)))\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"


def test_a_packed_weight_is_another_than_the_plain_one_of_equal_bytes() -> None:
    spec, data = TensorSpec("float32", (3, 4)), memoryview(bytes(48))
    panels = Layout(kind=LayoutKind.PANELS, order=(0, 1), groups=1, k=3, n=4, nr=2)
    assert blob_hash(spec, data, panels) != blob_hash(spec, data)
    assert blob_hash(spec, data, panels) != blob_hash(spec, data, replace(panels, nr=4))
    half = replace(panels, stored="bfloat16")
    assert blob_hash(spec, data, panels) != blob_hash(spec, data, half)
    assert blob_hash(spec, data, plain_layout((3, 4))) == blob_hash(spec, data)
    assert plain_blob(spec, data).array().shape == (3, 4)
    with pytest.raises(VerifyError, match="no plain array"):
        Blob(spec, data, panels).array()
