"""Thousands of devices in a process: the agent's own code on the real wire, with an invented machine below it."""
