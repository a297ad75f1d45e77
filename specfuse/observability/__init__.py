"""What both services tell Prometheus alike: histogram buckets, and the endpoint it scrapes."""
