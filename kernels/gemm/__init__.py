"""Activations times a packed weight: C[M, N] = A[M, K] x B[K, N], plus a bias if there is one.

reads    A [M, K] float32, columns next to each other, any row stride; M may be symbolic
         B flat, packed in panels (`Layout`), of A's dtype
         bias [N], optional
writes   C [M, N], columns next to each other, any row stride
attrs    k, n, nr: of B's layout

Order of sums: K in chunks of 256, each one chain of fused multiply-adds in k order from zero;
chunk sums added in chunk order; then the bias.
"""
