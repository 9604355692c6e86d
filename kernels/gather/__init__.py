"""Rows, or single elements, picked by an integer tensor."""
