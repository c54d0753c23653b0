"""Attention kernels for rows in which several responses share a prompt.

Start at `attention.py`: the function that models call. `spans.py` is the plan of a grid; `cpu.py`, `varlen.py` (CUDA)
and `plain.py` (the slow oracle) are the kernels that take it; `choice.py` says which serves a device, a dtype and a
head. `flex.py` is FlexAttention's block mask; what none of these serves gets a dense mask. `fork.py` is for recurrent
layers.
"""
