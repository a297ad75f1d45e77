"""The gRPC door: `specfuse.v1.ModelService`."""
