"""The program: command line, daemon, routes, systemd integration and logging."""
