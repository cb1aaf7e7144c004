"""Prompt learning: contexts of a vision-language model that are learned from a few pictures. Lab only: torch."""
