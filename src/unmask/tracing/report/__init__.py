"""The report of a case, and how it and the results of the tools are shown."""
