"""How the shipped performance tables were made."""
