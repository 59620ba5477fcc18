"""Tests of kvm_exporter.collector, module by module."""
