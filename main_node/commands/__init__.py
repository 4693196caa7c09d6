"""The commands of the main node's side."""
