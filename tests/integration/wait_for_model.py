"""Waits until an endpoint lists a model: `URL NAME SECONDS`; exit code 1 = it never did."""

from __future__ import annotations

import json
import sys
import time
import urllib.error
import urllib.request

url, name, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
until_s = time.monotonic() + seconds
while time.monotonic() < until_s:
    try:
        with urllib.request.urlopen(f"{url}/v1/models", timeout=5) as answer:
            if any(model["id"] == name for model in json.load(answer)["data"]):
                sys.exit(0)
    except (urllib.error.URLError, OSError):
        pass
    time.sleep(0.1)
sys.exit(1)
