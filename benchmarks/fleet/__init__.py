"""Fleets too large to be had: what they cost a real Prometheus, and whom a roll-out among them wakes up."""
