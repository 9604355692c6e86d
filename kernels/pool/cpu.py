"""The kernels of pooling and resizing."""

from fusec.kernels.codegen.emit import KernelSource
from fusec.kernels.pool.resize import pool_resize_f32
from fusec.kernels.pool.window import pool_window_f32

__all__ = ["KERNELS"]

KERNELS: tuple[KernelSource, ...] = (
    KernelSource(name="pool_window_f32", function=pool_window_f32),
    KernelSource(name="pool_resize_f32", function=pool_resize_f32),
)
