"""Who gets a message: subjects, subscriptions, accounts, connections without their sockets. Pure."""
