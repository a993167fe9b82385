"""The configuration files of the demo, as text: a hub, a site, a device, a Pico. They are the ones a real fleet has,
except that everything listens on loopback and looks more often than it would in the field.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final

HUB_DOMAIN: Final = "hub"
KEPT_APART: Final = ("tele.>", "fleet.result.>")
"""What site and hub each keep in streams of their own: the hub sources the site's, once each and in order. Were it to
cross the link by interest as well, it would be stored twice: at the hub going up, at every site going down."""
OFTEN_S: Final = 1  # between presence entries and readings; in the field 10 and 30
PICO_EVERY_S: Final = 0.1  # a busy sensor, so that a short outage already piles up a three-digit number of readings


def hub(*, folder: Path, leaf_port: int, monitor_port: int) -> str:
    """For a stock nats-server: JetStream with a domain, and a listener for leaf nodes. It does not advertise its own
    address, because sites must keep to the link that the demo can cut."""
    return f"""\
server_name: hub
http: "127.0.0.1:{monitor_port}"
jetstream {{ domain: {HUB_DOMAIN}, store_dir: "{folder / "js"}" }}
leafnodes {{ listen: "127.0.0.1:{leaf_port}", no_advertise: true }}
"""


def site(*, name: str, folder: Path, hub_port: int) -> str:
    """For a site's leafnode: JetStream with a domain of its own, and the link to the hub."""
    apart = ", ".join(f'"{subject}"' for subject in KEPT_APART)
    return f"""\
server_name: {name}
jetstream {{ domain: {name}, store_dir: "{folder / "js"}" }}
leafnodes {{
  reconnect: 250ms
  remotes: [ {{
    url: "nats-leaf://127.0.0.1:{hub_port}"
    deny_exports: [{apart}]
    deny_imports: [{apart}]
    ignore_discovered_servers: true  # the way to the hub is through the proxy that cuts it
  }} ]
}}
"""


def device(
    *,
    name: str,
    site: str,
    folder: Path,
    broker: str,
    groups: Sequence[str],
    check: Sequence[str],
    works: Sequence[str],
) -> str:
    """For fleet-agent: who it is, where its broker is, and one managed file."""
    return f"""\
state_dir = {json.dumps(str(folder / "state"))}

[device]
id = "{name}"
groups = {json.dumps(list(groups))}
tags = {{ site = "{site}" }}

[nats]
urls = ["{broker}"]
hub_domain = "{HUB_DOMAIN}"

[presence]
interval_s = {OFTEN_S}

[telemetry]
interval_s = {OFTEN_S}
metrics = ["cpu", "mem", "load"]

[config.thermostat]
path = {json.dumps(str(folder / "thermostat.json"))}
format = "json"
validate = {json.dumps([*check, "{file}"])}
verify = {json.dumps([*works, str(folder / "thermostat.json")])}
"""


def pico(*, name: str, folder: Path, broker: str) -> str:
    """config.json of the firmware, with a sensor that needs no hardware."""
    settings = {
        "device": name,
        "servers": [broker],
        "store": str(folder / "queue"),
        "sensors": [{"kind": "simulated", "name": "temp", "every": PICO_EVERY_S, "keep": "must"}],
    }
    return json.dumps(settings, indent=2)
