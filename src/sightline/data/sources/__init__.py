"""Where rows come from: files of every kind, the hub, LLaMA-Factory's registry.

Start at `load.py`.
"""
