"""Robust training (ANCRA and its bases) and its adaptive evaluation."""
