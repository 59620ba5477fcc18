"""The program: command line, daemon, routes, systemd, and how the log is written."""
