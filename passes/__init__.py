"""passes: see README.md for the way through the house."""

if __name__ != "fusec.passes":
    raise ImportError("import fusec.passes, not the top-level directory passes")
