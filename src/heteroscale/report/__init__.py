"""What people and programs read after a run: a table, a JSON file, one HTML page.

Knows results, not how they came about: no clock, no files, no network. Text is returned; the
command line writes it.
"""
