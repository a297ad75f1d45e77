"""HTTP plumbing: a server with a bound on all that callers can hold, its TLS, and what it reads."""
