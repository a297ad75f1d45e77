"""Members behind gRPC, in any number of replicas: found, chosen, called, left alone."""
