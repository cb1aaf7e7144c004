"""Faces -> ordered edits: what was changed, in which order, and how the face may have looked before."""
