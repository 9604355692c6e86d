"""Softmax and its logarithm over rows."""
