"""The plan file: one `.fusec` file with a manifest and weights that are mapped, not copied.

Loading a plan imports neither torch nor onnx, unpickles nothing and runs nothing from the file.
"""

from fusec.artifact.read import PlanFile, read_plan, read_plan_file
from fusec.artifact.write import write_plan

__all__ = ["PlanFile", "read_plan", "read_plan_file", "write_plan"]
