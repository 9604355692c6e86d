"""Layer norm, RMS norm and group norm, with their affine part."""
