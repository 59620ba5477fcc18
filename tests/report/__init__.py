"""Tests of kvm_exporter.report, module by module."""
