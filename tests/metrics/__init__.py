"""Tests of kvm_exporter.metrics, module by module."""
