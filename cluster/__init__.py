"""The `rayfeed` command: bring-up and tear-down, the edge, child processes."""
