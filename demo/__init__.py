"""A fleet to try the exporter's alerts on: a development tool, no part of what is installed."""
