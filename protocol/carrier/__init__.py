"""What carries it: sockets, keys, connections that come back, discovery."""
