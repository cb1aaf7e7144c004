"""Bayes over the records and "not in the register": belief, next question, conclusion."""
