"""Tests in real KVM guests."""
