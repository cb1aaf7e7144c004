"""The main job: media -> faces -> quality -> forgery score -> likelihood ratio -> edits -> report.

A picture: every face is judged by itself. A video: frames are sampled, faces followed, and each track is one finding.
The frames of a track show the same person minutes or milliseconds apart; they are anything but independent, so they are
treated as one observation (the mean of their logits), and likelihood ratios are never multiplied over frames.

Several forgery packs may look at each face. The first one leads: it decides what is refused and what is concluded. The
others give second opinions, which stand beside it; the same pixels are no independent evidence, so nothing is combined.

What is not judged authentic is then read for edits of its parts: which, in which order, and how the face may have
looked before. That explains, and changes no verdict.
"""

from unmask.inspection.inspector import Inspection, Inspector, inspect
from unmask.inspection.options import EDIT_PACK, InspectorOptions

__all__ = ["EDIT_PACK", "Inspection", "Inspector", "InspectorOptions", "inspect"]
