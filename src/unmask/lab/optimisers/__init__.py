"""Optimisers that the lab adds to torch's: sharpness-aware ones, each around a base optimiser. Lab only."""
