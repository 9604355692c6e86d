"""Activations times activations: C[b, M, N] = A[b, M, K] x B[b, K, N], plus a bias if there is one.

reads    A [..., M, K]  float32 or float64; columns next to each other, other strides any
         B [..., K, N]  any strides
         bias [N]       optional
writes   C [..., M, N]  columns next to each other
         all of one rank, 2 to 4, and one dtype; extents may be symbols; stride 0 repeats

The order of sums is gemm's, and so are the tiles. B's panels are packed on the way, unless B has
few rows of A to meet and lies as a panel wants it.
"""
