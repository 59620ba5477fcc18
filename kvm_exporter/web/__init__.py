"""The HTTP server: connections, TLS, authentication and limits. Nothing here depends on KVM."""
