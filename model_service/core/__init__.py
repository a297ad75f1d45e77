"""What a model service knows without any framework: its types, text rules and scores."""
