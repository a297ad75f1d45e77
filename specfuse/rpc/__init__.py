"""gRPC plumbing that both services and the client share."""
