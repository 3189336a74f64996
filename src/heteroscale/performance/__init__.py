"""How fast an engine is: facts with their provenance. No simulation, no policy."""
