"""Data sets and forgery makers of the lab."""
