"""Side-by-side measurements against peers, in the same run: one module per subject, `rows()` in each."""
