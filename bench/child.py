"""A process of its own: loads all members one way, answers one request each, and ends.

    child.py fusec PLAN.fusec INPUT.npy THREADS            all members of the plan, the same input
    child.py onnxruntime FOLDER INPUT.npy THREADS          all .onnx files of the folder
    child.py openvino FOLDER INPUT.npy THREADS
    child.py busy CORE                                     compute on one core until killed

Answers go to standard output as .npy, the resident bytes to standard error. Nothing is imported
that the way does not need: how long this takes is what is measured.
"""

import os
import sys

import numpy as np


def by_fusec(path: str, x: np.ndarray, threads: int) -> list[np.ndarray]:
    """Answer with a plan file."""
    import fusec

    plan = fusec.load(path, executor="cpu", threads=threads)
    answers = plan.run(dict.fromkeys(plan.members, x))
    return [next(iter(answers[name].values())) for name in sorted(answers)]


def by_onnxruntime(path: str, x: np.ndarray, threads: int) -> list[np.ndarray]:
    """Answer with a session per file."""
    import onnxruntime

    onnxruntime.set_global_thread_pool_sizes(threads, 1)
    options = onnxruntime.SessionOptions()
    options.use_per_session_threads = False
    options.log_severity_level = 3
    options.add_session_config_entry("session.force_spinning_stop", "1")
    sessions = [onnxruntime.InferenceSession(file, options) for file in _files(path)]
    return [np.asarray(s.run(None, {s.get_inputs()[0].name: x})[0]) for s in sessions]


def by_openvino(path: str, x: np.ndarray, threads: int) -> list[np.ndarray]:
    """Answer with a compiled model per file."""
    import importlib

    core = importlib.import_module("openvino").Core()
    settings = {
        "INFERENCE_PRECISION_HINT": "f32",
        "NUM_STREAMS": "1",
        "INFERENCE_NUM_THREADS": str(threads),
    }
    made = [core.compile_model(file, "CPU", settings) for file in _files(path)]
    return [np.asarray(model([x])[0]) for model in made]


def _files(folder: str) -> list[str]:
    return sorted(os.path.join(folder, name) for name in os.listdir(folder) if ".onnx" in name)


def resident_bytes() -> int:
    """Return how much memory this process has in use."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _busy(core: int) -> None:
    os.sched_setaffinity(0, {core})
    a = np.random.default_rng(core).random(4096)
    while True:
        a = np.sqrt(a * a + 1.0) - 0.5


WAYS = {"fusec": by_fusec, "onnxruntime": by_onnxruntime, "openvino": by_openvino}

if __name__ == "__main__":
    if sys.argv[1] == "busy":
        _busy(int(sys.argv[2]))
    _, way, where, data, count = sys.argv
    given = WAYS[way](where, np.load(data), int(count))
    np.save(sys.stdout.buffer, np.stack(given))
    sys.stdout.flush()
    sys.stderr.write(f"{resident_bytes()}\n")
    sys.stderr.flush()
    os._exit(0)
