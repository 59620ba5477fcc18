"""Processes, machines and servers that the demonstration, the tests and the benchmarks share. Imports none of these."""
