"""Scaled dot product attention: softmax(scale * q @ k^T + mask) @ v, a block of rows at a time."""
