"""What Grafana reads: two dashboards, and the files that provision them with a data source and alert rules."""
