"""The fault campaign: every kind of fault at every exchange, and the proof that nothing was lost."""
