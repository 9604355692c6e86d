"""Install the built wheel into an environment of its own and use it outside the checkout."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

import environment

# Only declared runtime dependencies are there: no onnx, no scikit-learn, no development tools.
USE = """
import sys
from pathlib import Path

import fusec

here = Path(fusec.__file__).resolve()
assert Path(sys.prefix).resolve() in here.parents, f"not the installed wheel: {here}"
assert (here.parent / "py.typed").is_file()

import torch
from torch import nn


def classifier(seed):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4)).eval()


models = {f"tenant{n}": classifier(n) for n in range(3)}
x = torch.randn(1, 8)
plan = fusec.compile(models, examples={name: x for name in models})
plan.save("tiny.fusec")
again = fusec.load("tiny.fusec")
answers = again.run({name: x for name in models})
for name, model in models.items():
    (answer,) = answers[name].values()
    torch.testing.assert_close(answer, model(x).detach())
assert len(plan.explain().groups) == 1, str(plan.explain())
print("wheel: three models compiled, saved, loaded and run")
"""


def main() -> None:
    """Run the check; the exit status of the first failing step ends it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dist", type=Path)
    parser.add_argument("--torch", default="")
    options = parser.parse_args()
    wheels = sorted(options.dist.resolve().glob("fusec-*.whl"))
    if len(wheels) != 1:
        sys.exit(f"{options.dist}: wanted one wheel, got {[wheel.name for wheel in wheels]}")
    with tempfile.TemporaryDirectory() as folder:
        env = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
        venv.create(Path(folder, "venv"), with_pip=True)
        python = Path(folder, "venv", "bin", "python")
        if not environment.install(python, options.torch, str(wheels[0])):
            sys.exit(f"pip could not install {wheels[0].name}; its message is above")
        script = Path(folder, "use_the_wheel.py")
        script.write_text(USE)
        steps = (
            [str(python), str(script)],
            [str(python), "-m", "fusec", "--version"],
            [str(Path(folder, "venv", "bin", "fusec")), "--help"],
        )
        for step in steps:
            quiet = subprocess.DEVNULL if step[-1] == "--help" else None
            done = subprocess.run(step, cwd=folder, env=env, stdout=quiet)
            if done.returncode:
                sys.exit(f"failed: {' '.join(step)} ({done.returncode})")


if __name__ == "__main__":
    main()
