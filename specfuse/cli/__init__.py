"""The command line, `specfuse`."""
