"""Timings on a real GPU; PyTorch is needed here and nowhere else."""
