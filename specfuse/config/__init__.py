"""Settings: YAML files read into typed, frozen objects, and errors a person can act on."""
