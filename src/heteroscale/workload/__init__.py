"""Request traffic: loaders for public and own trace formats, generators, rate curves."""
