"""Pure wire protocols, one module per exchange: frames in, Arrow batches out; no Ray, no I/O."""
