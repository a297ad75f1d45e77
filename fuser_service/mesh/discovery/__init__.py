"""Where a member's replicas are. Each way to find them is a folder and an entry in `registry`."""
