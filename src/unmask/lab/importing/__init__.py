"""Published detectors that a user has as files, turned into model packs: `unmask import`. Lab only."""
