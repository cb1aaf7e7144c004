"""One case from its first question to its report: answers, the case file, the investigation, the conversation."""
