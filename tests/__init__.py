"""The tests; mirrors src/sightline."""
