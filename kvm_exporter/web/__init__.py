"""HTTP, TLS, passwords and limits. Knows nothing of KVM."""
