"""The task of detecting forged faces."""
