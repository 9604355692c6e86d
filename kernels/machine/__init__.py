"""What this machine can do at most: kernels that only read memory, or only multiply and add."""
