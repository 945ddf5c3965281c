"""Several hosts on one machine, and what rayfeed does on them."""
