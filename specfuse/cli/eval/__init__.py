"""`specfuse eval`: the command line of `specfuse.eval`."""
