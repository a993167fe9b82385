"""One file a kind of sensor. Each has `UNIT` and `reader(entry)`, which returns the function that reads it."""
