"""Soft scale-in on real Dynamo processes, beside plain termination."""
