"""Non-maximum suppression of boxes as a single operation."""
