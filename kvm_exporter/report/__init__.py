"""What people read: table, JSON, landing page, log messages about changes."""
