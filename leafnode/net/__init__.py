"""Everything that waits on the outside: sockets, tasks, the clock. Decides nothing."""
