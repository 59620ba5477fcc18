"""A demonstration: a fleet to try the exporter's alerts on. It is a development tool and is not installed."""
