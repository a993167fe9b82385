"""The operator's command line and its library."""
