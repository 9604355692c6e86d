"""Simulated runs for people: what to simulate, tables, and a page to look at."""
