"""Benchmarks of the exporter against programs that users would otherwise run: make bench, make soak."""
