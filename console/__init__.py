"""What the commands share: exit codes, log lines, signals, and how options are declared."""
