"""What runs a model. Each backend is a folder and an entry in `registry`."""
