"""The rules for Prometheus: recordings and alerts as values, which depend on the settings alone."""
