"""Tests of kvm_exporter.cpuid, module by module."""
