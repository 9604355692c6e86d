"""Exporters: a program as a file that runs without fusec."""
