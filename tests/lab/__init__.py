"""Tests of the demonstration and the benchmarks, and of what they share in lab/."""
