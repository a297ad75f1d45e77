"""How callers come in. Each door converts a request, has it answered, converts the events."""
