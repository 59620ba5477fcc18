"""What this machine shows, and when to sample it."""
