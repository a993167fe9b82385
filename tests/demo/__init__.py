"""`make demo`: a whole fleet on one machine, shown to a newcomer and checked while it is shown."""
