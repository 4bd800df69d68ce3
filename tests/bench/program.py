"""The small C programs of the benchmarks, in build/bench-bin."""
import json
import os

import measure
from lab import bin_dir, sh


def path(name):
    return os.path.join(os.path.dirname(bin_dir()), "bench-bin", name)


def results(name):
    """Rows of {name, value: [a value a run], unit}."""
    runs = [[json.loads(line) for line in sh(path(name), timeout=120).splitlines()]
            for _ in range(measure.RUNS)]
    return [{**rows[0], "value": [r["value"] for r in rows]} for rows in zip(*runs)]
