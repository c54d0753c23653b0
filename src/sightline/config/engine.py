"""How many processes train together, and by which engine."""

from typing import Literal

Engine = Literal["auto", "ddp"]
"""What keeps the processes in step; it is torch's, through accelerate."""
