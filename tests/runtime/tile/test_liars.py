"""A plan file that lies about its numbers is refused or computes something: it never crashes."""

import os
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fusec_testing.liars import changed, spots
from torch import nn

import fusec
from fusec.artifact import read_plan, write_plan
from fusec.ir.errors import FusecError

NUMBERS = (0, 1, 2, 3, 5, 7, 17, 64, 100, 1000, -1, 2**31)
ROUNDS = 60


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.LayerNorm(8)
        self.fc = nn.Linear(8, 12)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm(torch.relu(self.conv(x)).flatten(2).transpose(1, 2))
        return torch.softmax(self.fc(x) @ self.fc(x).transpose(1, 2), -1).amax(-1)


@pytest.mark.slow
def test_liars_do_not_crash(tmp_path):
    path = tmp_path / "net.fusec"
    fusec.compile({"net": Net().eval()}, examples={"net": torch.rand(1, 3, 5, 6)}).save(path)
    command = [sys.executable, __file__, str(path)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    ran, refused = map(int, done.stdout.split())
    assert ran > 3
    assert refused > 10


def run_liars(path: Path) -> tuple[int, int]:
    """Run each; count those that ran and those that were refused."""
    data = read_plan(path)
    ((_, template),) = data.templates.items()
    ((name, form),) = data.forms.items()
    paths = list(spots(template.body))
    rng = random.Random(11)
    ran = refused = 0
    for _ in range(ROUNDS):
        body = changed(template.body, rng.choice(paths), rng.choice(NUMBERS))
        new = replace(template, body=body)
        lie = replace(data, templates={new.key: new}, forms={name: replace(form, template=new.key)})
        try:
            write_plan(lie, path.with_suffix(".lie"))
            plan = fusec.load(path.with_suffix(".lie"), executor="cpu", threads=1)
            plan.run({"net": np.zeros(new.inputs[0].shape, np.float32)})
            ran += 1
        except (FusecError, MemoryError):
            refused += 1
    return ran, refused


if __name__ == "__main__":
    print(*run_liars(Path(sys.argv[1])))
