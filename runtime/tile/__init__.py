"""Tile programs: a plan's stages and an instance list become one table that workers run.

code     a template's stages, encoded for native kernels; once per template
bind     words, ranges and arena offsets for one set of extents
build    bound templates and instances -> units of tasks
executor programs kept per instance list, run by the pool
"""
