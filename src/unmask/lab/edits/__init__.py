"""The task of reading edit sequences."""
