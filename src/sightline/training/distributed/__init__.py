"""Several processes: launching, joining, DDP, FSDP2, ZeRO.

Start at `engine.py`.
"""
