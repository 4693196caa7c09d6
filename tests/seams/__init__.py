"""One file of each kind that others may add; tests put them where such a file belongs."""
