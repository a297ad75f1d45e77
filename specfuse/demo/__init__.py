"""Five tiny expert models, the compound questions they answer together, and their training."""
