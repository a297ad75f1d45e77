"""How calls come in. A door converts a request, calls the service, converts the answer."""
