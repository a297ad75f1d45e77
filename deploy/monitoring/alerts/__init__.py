"""The alerts: said once, and written as the chart's PrometheusRule and as plain files of rules."""
