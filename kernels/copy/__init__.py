"""Moving elements: any strided view to any other, and rows of numbers.

form "" (no attributes)   read -> write, of one shape and dtype, whatever it is
form "arange"             write[i] = start + i * step
"""
