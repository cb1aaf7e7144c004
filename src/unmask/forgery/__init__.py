"""Faces become scores and maps; one module per detector."""
