"""The fusec command line."""
