"""Data sets: manifests, the layouts that can be read, prepared faces."""
