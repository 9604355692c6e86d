"""Elementwise programs: one small machine runs any of them, block by block.

steps      the table of steps: names, operands, results
encode     a program as words for the machine
reference  NumPy
cpu        the machine
"""
