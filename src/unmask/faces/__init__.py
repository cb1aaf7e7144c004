"""Pictures become faces: finding, aligning, tracking, quality."""
