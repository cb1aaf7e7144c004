"""What every network of the lab is built on."""
