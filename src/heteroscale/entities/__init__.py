"""Nouns of the domain: frozen values without I/O, clock, randomness or logging.

Units are the last suffix of a name (`ttft_s`, `load_tps`); utilization is 0 to 1, never percent.
Unknown is None with a cause, never 0. Mappings are never mutated after construction.
"""
