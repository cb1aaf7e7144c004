"""The lab's engine: protocol, run folders, training, evaluation, export. Needs the "lab" extra."""
