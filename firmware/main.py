"""Runs the publisher with config.json, or with the file named on the command line."""

import sys

from picoleaf import ConfigError, Publisher

if __name__ == "__main__":
    try:
        Publisher.from_file(sys.argv[1] if len(sys.argv) > 1 else "config.json").run()
    except ConfigError as error:
        print("picoleaf: %s" % error)
        sys.exit(2)
