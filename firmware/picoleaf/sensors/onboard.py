"""The temperature sensor inside the chip of a Pico. Entry: `{"kind": "onboard", "offset": 0.0}`."""

import machine

UNIT = "C"
ADC_CHANNEL = 4
VOLTS = 3.3
STEPS = 65535
VOLTS_AT_27_C = 0.706  # RP2040 datasheet, 4.9.5
VOLTS_PER_C = 0.001721


def celsius(raw):
    """Degrees for a raw 16-bit reading."""
    return 27 - (raw * VOLTS / STEPS - VOLTS_AT_27_C) / VOLTS_PER_C


def reader(entry):
    adc = machine.ADC(ADC_CHANNEL)
    offset = entry.get("offset", 0.0)
    return lambda: round(celsius(adc.read_u16()) + offset, 1)
