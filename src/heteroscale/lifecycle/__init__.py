"""WHEN an instance enters and leaves rotation, and when its service may change again.

Pure state machines over observed instances: soft scale-in, drain, readiness gate, waits. It may
know specs, instances and its own memory; it must not know how much is wanted or where it goes.
"""
