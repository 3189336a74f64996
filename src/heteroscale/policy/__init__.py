"""HOW MUCH: one service's snapshot, memory and wishes in; capacity per role out, with reasons.

Four steps, each a pure function that returns its result and its reason: signal (what may be
believed), recommend (what each strategy asks for), guard (what may change now, one number), and
coordinate (that one number as capacity per role). It knows nothing of where instances are placed.
"""
