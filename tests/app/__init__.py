"""Tests of kvm_exporter.app, module by module."""
