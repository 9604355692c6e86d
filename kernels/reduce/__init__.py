"""Sums, means, extremes, where they are, variances and norms; running sums."""
