"""What arrived of every symbol's trades, what is missing, and how that is known; no Ray, and I/O only in `keeper`."""
