"""What the broker is told at its start: nats-server's configuration grammar, keys and flags, as frozen values.

text --grammar--> values with lines --load--> Config <--flags-- command line (which wins)
"""
