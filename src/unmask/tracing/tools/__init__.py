"""What is done with a register beside tracing: profile its columns, audit it, link records of one person."""
