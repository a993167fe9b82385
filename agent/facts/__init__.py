"""Facts about the machine, each group a table."""
