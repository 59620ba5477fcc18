"""What several tests need: real programs to run, and machines to read."""
