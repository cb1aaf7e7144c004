"""Sketch search: training and measuring networks that bring sketches and photos together. Lab only."""
