"""What a fuser service is told at its start."""
