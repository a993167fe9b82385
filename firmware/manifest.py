"""Freezes picoleaf into an image: make -C ports/rp2 BOARD=RPI_PICO_W FROZEN_MANIFEST=/path/to/firmware/manifest.py"""

# ruff: noqa: F821  MicroPython's build defines these functions

metadata(version="1.0.0", description="Sensor readings into a NATS stream, once each")
include("$(BOARD_DIR)/manifest.py")
package("picoleaf")
