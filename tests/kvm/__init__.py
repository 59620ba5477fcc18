"""Tests of kvm_exporter.kvm, module by module."""
