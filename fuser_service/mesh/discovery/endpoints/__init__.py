"""`endpoints`: a member's replicas, listed in the settings for good."""
