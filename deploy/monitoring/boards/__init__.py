"""The dashboards: what is on them, and how Grafana is told."""
