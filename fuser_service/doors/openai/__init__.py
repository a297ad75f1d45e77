"""The OpenAI-compatible HTTP door: chat completions, completions, and the list of models."""
