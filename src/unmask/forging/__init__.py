"""Forgery makers, and the writers of the sets they make."""
