"""A Prometheus exporter for the KVM CPUID leaves: what the hypervisor offers, on every CPU, and when it changes."""

__version__ = "0.1.0"
