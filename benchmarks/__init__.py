"""Benchmarks: whole optimizer steps of Sightline beside those of TRL. README.md says how to run them."""
