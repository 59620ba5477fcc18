"""Simulated fleets: what they cost a real Prometheus, and how many notifications a roll-out sends."""
