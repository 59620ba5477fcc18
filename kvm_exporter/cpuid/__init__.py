"""Where registers come from: this machine, or a dump."""
