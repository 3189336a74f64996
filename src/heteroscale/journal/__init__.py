"""Evidence: one sealed record per tick, from which every plan can be computed again.

May know the entities and the planner; knows no file, clock or network: where lines go is a
`JournalSink` from outside. Nothing here is ever read back to run: fail-over memory is the Store's.

    codec    entities ↔ bytes, digests
    rows     compact forms of readings, instances and actions
    record   one tick ↔ one line, given what the lines before carried
    chain    the hash that binds a line to itself and to the one before
    fold     the pure part of a tick, the same for the loop and for replay
    recorder writes; replay recomputes; explain tells one decision in words
"""
