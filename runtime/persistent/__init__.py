"""Tile programs for the persistent super-kernel of a card.

stages   a template's stages as tiles, bound to extents and a number of instances
needs    which tiles of a stage read what which tiles of another wrote
policy   how fine stages tell that they are done: per stage, block of rows, window or tile
cost     what waits and idle programs cost; which policy, and whether to launch by stage
plan     waits, signals and an arena for some instances of a template; once per extents
program  plans of many members and templates -> the arrays that the kernel reads
check    proof that a program ends, has no race and never uses memory twice
state    the words of a run: set up, read, explained
"""
