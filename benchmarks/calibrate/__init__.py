"""Holds tables, roofline and simulator to figures that others have published, one file a source.

`python -m benchmarks.calibrate` runs every check. A check prints how near we come and returns a
summary for the last line, JSON, with the key `passed`.
"""
