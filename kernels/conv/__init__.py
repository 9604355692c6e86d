"""Convolution over channels-last images: N-D data as [N, H, W, C], 1-D with H = 1.

reads    x [N, H, W, C] any strides (fastest with channels next to each other)
         B flat: panels [groups, panels, K, nr], or rows [groups, K, N] with a tail that may be read
         bias [groups * N], optional
writes   y [N, H', W', groups * N], channels next to each other, other strides as you like
attrs    kernel, stride, padding, dilation (two numbers each), groups, transposed, depthwise,
         nr: columns of a panel; packed: panels or rows

K counts (ky, kx, c) in this order, c the channels of a group. Order of sums: K in chunks of 256,
each one chain of fused multiply-adds from zero, chunk sums added in chunk order; then the bias.
Taps outside the image take part as zeros, as if it were padded; taps that a transposed
convolution's stride skips do not. A depthwise stage (groups = channels, one output each) keeps its
weight as one matrix [taps, C] in panels and the same order: one chain over at most 256 taps.
"""
