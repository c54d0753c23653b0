"""Completions sampled while training: prompts, and samplers (transformers, vLLM in the process or as a server).

Start at `sampler.py`, the protocol; `vllm_weights.py` says how a policy's weights reach a server.
"""
