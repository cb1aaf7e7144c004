"""Scores become evidence: likelihood ratios, verdicts and refusals, and the reports that carry them."""
