"""What is shown once a run has ended."""
