"""runtime: see README.md for the way through the house."""

if __name__ != "fusec.runtime":
    raise ImportError("import fusec.runtime, not the top-level directory runtime")
