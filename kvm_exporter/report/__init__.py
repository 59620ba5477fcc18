"""Formats observations for people: table, JSON, landing page, and log messages about changes."""
