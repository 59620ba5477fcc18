"""A Prometheus exporter for the KVM CPUID leaves: the features that the hypervisor offers on every CPU, and changes."""

__version__ = "0.1.0"
