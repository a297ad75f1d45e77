"""`kubernetes`: a member's replicas, by the EndpointSlices that the API server tells of."""
