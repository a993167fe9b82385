"""A sensor that needs no hardware: a temperature that swings slowly around a middle, for trying things out.

Entry: `{"kind": "simulated", "middle": 21.5, "swing": 2.0, "period": 120}`.
"""

import math

UNIT = "C"


def reader(entry):
    middle = entry.get("middle", 21.5)
    swing = entry.get("swing", 2.0)
    period = entry.get("period", 120)
    count = [0]

    def read():
        count[0] += 1
        return round(middle + swing * math.sin(2 * math.pi * (count[0] % period) / period), 2)

    return read
