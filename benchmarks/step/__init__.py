"""Whole optimizer steps, each program through its own trainer. docs/benchmarks.md has the method."""
