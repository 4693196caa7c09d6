"""A small net, trained by gradient descent; importing this needs no torch."""
