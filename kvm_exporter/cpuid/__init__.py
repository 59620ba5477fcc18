"""Reads the registers that CPUID returns: from the CPUs of this machine, or from a recorded dump."""
