"""Kernels for NVIDIA cards: compiled ahead of time, on machines that need not have one."""
