"""What people and programs read: of a run a table, a JSON file, one HTML page; of a controller
its metrics.

Knows results, not how they came about: no clock, no files, no network. Text is returned; the
command line writes it.
"""
