"""What operators write: YAML read into frozen entities, with every fault reported at once.

May read files and know YAML and pydantic; knows no clock, network, simulator or policy. A fault is
an `errors.Problem` with file, line, path, value and rule; callers see entities or a `ConfigError`.
"""
