"""Makes what watches a mesh, from one program: `make monitoring`.

    docs/metrics.md                                every series that the services export
    docs/monitoring.md                             every alert and panel, with what proves it
    specfuse.rules.yaml                            the alerts, for a Prometheus without an operator
    ../helm/specfuse/templates/monitoring/
      prometheusrule.yaml                          the same, with thresholds as values of the chart
    ../helm/specfuse/dashboards/*.json             the dashboards

A test fails where a file is not what it is made from.
"""
