"""Compiled discrete-event simulator of P/D serving; it stands exactly where production stands."""
