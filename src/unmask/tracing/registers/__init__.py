"""Registers of people: on disk, in memory, in a database; their records weighed by answers."""
