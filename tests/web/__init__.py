"""Tests of kvm_exporter.web, module by module."""
