"""The version of the package: read by the build, and without loading anything."""

__version__ = "0.1.0"
