"""Who provides computing nodes."""
