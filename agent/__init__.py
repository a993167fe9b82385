"""The device agent and, in `agent.fleet`, the operator's side."""
