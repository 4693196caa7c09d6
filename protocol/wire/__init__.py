"""What is said: messages as bytes, their limits, arrays in pieces. Pure functions and values."""
