"""Serving: what happens between a request that was submitted and its answer."""
