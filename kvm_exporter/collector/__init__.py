"""Collects what the metrics need from this machine: CPUID leaves, evidence of the guest kernel, the host's KVM."""
