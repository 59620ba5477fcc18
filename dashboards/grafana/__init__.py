"""The files for Grafana: two dashboards, and provisioning with a data source and alert rules."""
