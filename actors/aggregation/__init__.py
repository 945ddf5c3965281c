"""Pure kernels over columns of events; no Ray, no I/O, no clock."""
