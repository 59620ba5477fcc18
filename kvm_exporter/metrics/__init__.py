"""Builds the metric families, and renders them in the exposition formats of Prometheus."""
