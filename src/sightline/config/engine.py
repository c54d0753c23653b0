"""How many processes train together, and by which engine."""

from typing import Literal

Engine = Literal["auto", "ddp", "fsdp2", "zero1", "zero2", "zero3"]
"""What keeps the processes in step; they are torch's and DeepSpeed's, through accelerate."""
