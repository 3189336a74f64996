"""WHERE: turns capacity that is wanted into counts per group, domain and accelerator.

It may know inventory, topology, specs and instances; it must not know signals, waits or time.
"""
