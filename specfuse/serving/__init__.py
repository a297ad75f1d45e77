"""What a service is made of whatever it serves: doors, metrics, and an orderly end."""
