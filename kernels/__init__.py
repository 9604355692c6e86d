"""kernels: see README.md for the way through the house."""

if __name__ != "fusec.kernels":
    raise ImportError("import fusec.kernels, not the top-level directory kernels")
