"""What can be known of a person: what each column is, how its texts are read, and how answers about it err."""
