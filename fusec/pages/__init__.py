"""What pages for people have in common: how they look, and how text gets into them."""
