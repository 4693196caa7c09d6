"""A kind of node: it solves jobs of text, loudly."""
