"""Decodes the registers of KVM's CPUID leaves into features, samples and differences; without I/O."""
