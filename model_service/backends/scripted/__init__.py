"""A backend without a model: it says what its script says."""
