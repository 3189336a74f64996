"""Coordinated autoscaling for LLM inference with prefill and decode on separate GPUs."""

__version__ = "0.1.0"
