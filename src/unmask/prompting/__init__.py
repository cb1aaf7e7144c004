"""Forgery families in words: learned from a few pictures, kept in packs, told on pictures. Learning needs torch."""
