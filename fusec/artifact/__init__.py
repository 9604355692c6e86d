"""The plan file: one .fusec file, written whole or not at all, read without trusting it."""
