"""Pooling and resizing of channels-last images: each output pixel looks at a window of the input.

reads    x [N, H, W, C], channels next to each other
writes   y [N, H', W', C], channels next to each other
attrs    mode: max, avg, adaptive_max, adaptive_avg, nearest, nearest_exact, bilinear
         max, avg      kernel, stride, padding, dilation (two numbers each);
                       avg: include_pad, divisor (0: count)
         nearest, ...  align_corners; scales: two source pixels per output pixel, 0.0: as sizes say

A window is taken in the order (ky, kx); a maximum passes NaN on, a sum starts from zero and is
divided once. Source positions of a resize are computed in float32, as torch does.
"""
