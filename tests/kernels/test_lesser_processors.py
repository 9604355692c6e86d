"""Kernels compiled for lesser processors give the same bits; without AVX-512 or AVX2 they run."""

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

import fusec

RUN = """
import hashlib, sys
import numpy as np
import fusec
plan = fusec.load(sys.argv[1], executor="cpu", threads=1)
rng = np.random.default_rng(7)
inputs = {"x": rng.standard_normal((3, 3, 13, 11), dtype=np.float32)}
outputs = plan.run({"net": inputs})["net"]
digest = hashlib.sha256()
for name, value in outputs.items():
    assert np.isfinite(value).all()
    digest.update(name.encode() + value.tobytes())
print(digest.hexdigest())
"""


class Net(nn.Module):
    """A little of everything that has kernels of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 20, 3, padding=1)
        self.depthwise = nn.Conv2d(20, 20, 3, groups=20)
        self.norm = nn.LayerNorm(20)
        self.batch = nn.GroupNorm(4, 20)
        self.fc = nn.Linear(20, 37)
        self.q, self.k = nn.Linear(37, 32), nn.Linear(37, 32)
        self.lstm = nn.LSTM(37, 9, batch_first=True)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        x = self.batch(torch.relu(self.depthwise(torch.nn.functional.gelu(self.conv(x)))))
        rows = self.norm(nn.functional.max_pool2d(x, 2).flatten(2).transpose(1, 2))
        y = torch.tanh(self.fc(rows)) * torch.sigmoid(rows.sum(-1, keepdim=True))
        a = nn.functional.scaled_dot_product_attention(self.q(y), self.k(y), y)
        b = torch.softmax(self.q(y) @ self.k(y).transpose(1, 2), -1)
        return a, b.std(-1), self.lstm(y)[0], y.exp().amax(1)


PRODUCT = """
import numpy as np
from fusec.kernels.codegen.target import processor
import fusec, sys
asked = sys.argv[2].split(",")
assert all(f in processor().features.split(",") for f in asked if f)
plan = fusec.load(sys.argv[1], threads=1)
x = np.random.default_rng(3).standard_normal((5, 19), dtype=np.float32)
print(plan.run({"net": x})["net"]["output"].tobytes().hex())
"""


@pytest.mark.parametrize("features", ["-avx512f", "-avx512f,-avx2,-avx,-fma"])
def test_products_have_the_same_bits_without_what_is_not_in_every_processor(tmp_path, features):
    """The part of the test below that takes seconds: the engine and products of both storages."""
    torch.manual_seed(2)
    net = nn.Sequential(nn.Linear(19, 35), nn.ReLU(), nn.Linear(35, 7)).eval()
    for weights in (None, "bfloat16"):
        plan = fusec.compile({"net": net}, examples={"net": torch.zeros(1, 19)}, weights=weights)
        plan.save(tmp_path / "net.fusec")
        x = torch.from_numpy(np.random.default_rng(3).standard_normal((5, 19), dtype=np.float32))
        usual = plan.run({"net": x.numpy()})["net"]["output"]
        assert output(PRODUCT, tmp_path / "net.fusec", features) == usual.tobytes().hex()


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("plan") / "net.fusec"
    example = torch.rand(1, 3, 13, 11)
    fusec.compile({"net": Net().eval()}, examples={"net": example}).save(path)
    return path


def output(program, plan, features):
    environment = {**os.environ, "FUSEC_CPU_FEATURES": features}
    command = [sys.executable, "-c", program, str(plan), features]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def digest(plan, features):
    found = output(RUN, plan, features)
    assert len(found) == hashlib.sha256().digest_size * 2
    return found


@pytest.mark.slow
@pytest.mark.parametrize("features", ["-avx512f", "-avx512f,-avx2", "-avx512f,-avx2,-avx,-fma"])
def test_the_same_bits(plan, features):
    assert digest(plan, features) == digest(plan, "")
