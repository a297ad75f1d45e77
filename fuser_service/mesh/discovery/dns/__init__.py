"""`dns`: a member's replicas, by a name that has the address of each."""
