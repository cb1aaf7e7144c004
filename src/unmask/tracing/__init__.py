"""Who is it? Identity tracing by attributes, down to zero bits, after TITF. Needs no torch."""
