"""Who only looks on."""
