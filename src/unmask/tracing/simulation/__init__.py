"""Trials of tracing on people whose answers are drawn, and registers of people who do not exist."""
