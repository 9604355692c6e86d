"""Stages as grouped Triton kernels: one launch runs a stage of any subset of instances.

    table    int64 [rows, words]  a row for each instance, or for several that lie as one:
                                  addresses, extents, strides, as the `grouped` module documents
    tiles    int32 [count, 4]     row of the table, block of its rows, of its columns, layer
    count    int32 [1]            how many tiles; programs walk over them in steps of the grid
    status   int32 [1]            what a kernel reports of bad data

All four are data in device memory: who runs, and how many rows each has, needs no new launch
parameters, let alone a compilation. Offsets and strides of the table count elements.

A kernel is specialised for what its stage fixes (dtypes, the pointwise program, attributes) and for
a configuration (sizes of blocks, warps). Only what keeps the order of every sum is in more than one
configuration of a kernel: sums over k go in chunks of 256, in blocks of `BLOCK_K` that one
architecture has one of; a row's sum is never split between programs.
"""
