"""Federated training: one detector of several organisations, none of which shows the others its pictures. Lab only."""
