"""Can a recogniser or a forgery detector be fooled, and at what strength: victims, attacks, accounting. Lab only."""
