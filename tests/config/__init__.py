"""Tests of kvm_exporter.config, module by module."""
