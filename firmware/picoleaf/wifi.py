"""Wi-Fi: the only file that knows about radios. Where there is none (the unix port, CPython) it does nothing.

Power saving is switched off: with it a Pico W answers seconds late and drops out (about 36 mA against 2 mA idle).
`isconnected()` is only believed when it says no; whether the link works is decided by traffic, in link.py. A server
that restarts never touches the radio: the network is joined anew only after REJOIN_MS without any connection.
"""

import asyncio

try:
    import network
except ImportError:
    network = None

JOIN_S = 20  # an access point and its DHCP; a busy one needs ten
POLL_S = 0.2
REJOIN_MS = 30000  # this long without a server: the association may be stale, whatever the driver says
SETTLE_S = 1.0  # between switching the radio off and on

_state = {"rejoined": 0}


async def join(settings, down_ms):
    """Makes sure that the network is joined. Raises OSError when it cannot be. `settings`: ssid, password, country."""
    if network is None or not settings:
        return
    wlan = network.WLAN(getattr(network, "STA_IF", 0))
    stale = down_ms - _state["rejoined"] >= REJOIN_MS
    if down_ms < REJOIN_MS:
        _state["rejoined"] = 0
    if wlan.isconnected() and not stale:
        return
    if stale:
        _state["rejoined"] = down_ms
        wlan.disconnect()
        wlan.active(False)
        await asyncio.sleep(SETTLE_S)
    await _connect(wlan, settings)


async def _connect(wlan, settings):
    if settings.get("country"):
        network.country(settings["country"])
    wlan.active(True)
    wlan.config(pm=getattr(network.WLAN, "PM_NONE", 0xA11140))
    if wlan.status() > 0:  # half-way from an earlier try: connect() on top of that confuses the chip
        wlan.disconnect()
    wlan.connect(settings["ssid"], settings.get("password", ""))
    for _ in range(int(JOIN_S / POLL_S)):
        if wlan.isconnected():
            return
        if wlan.status() < 0:
            break
        await asyncio.sleep(POLL_S)
    raise OSError("wifi %s: %s" % (settings["ssid"], _why(wlan.status())))


def _why(status):
    reasons = {-3: "wrong password", -2: "no such network", -1: "failed", 1: "joining", 2: "no address"}
    return reasons.get(status, "status %d" % status)
