"""What a benchmark found: a table on the screen as it grows, and build/bench/NAME.json."""
import json
import os
import statistics


class Skip(Exception):
    """Something cannot be measured here; the text says why."""


def build_dir():
    return os.environ.get("BUILD") or "build"


def show(value):
    if value is None:
        return "-"
    if value == 0 or abs(value) >= 1000:
        return f"{value:.0f}"
    return f"{value:.3g}" if abs(value) < 100 else f"{value:.1f}"


class Report:
    """Rows of {name, value, unit, baseline, ratio}; what was skipped has no value, and a note."""

    def __init__(self, name, title):
        self.name, self.rows, self.failed = name, [], False
        print(f"\n== {name}: {title}", flush=True)
        print(f"   {'':58} {'value':>9} {'unit':13} {'baseline':>9} {'ratio':>7}", flush=True)

    def add(self, name, value, unit, baseline=None):
        """`value` may be a list of runs: their median counts.  `baseline`: what the ratio is to."""
        spread = ""
        if isinstance(value, list):
            if len(value) > 1:
                spread = f"  ({show(min(value))} - {show(max(value))})"
            value = statistics.median(value)
        if isinstance(baseline, list):
            baseline = statistics.median(baseline)
        ratio = value / baseline if baseline else None
        self.rows.append({"name": name, "value": value, "unit": unit, "baseline": baseline,
                          "ratio": ratio})
        print(f"   {name:58} {show(value):>9} {unit:13} {show(baseline):>9} {show(ratio):>7}{spread}",
              flush=True)
        return value

    def skip(self, name, reason):
        self.rows.append({"name": name, "value": None, "unit": None, "baseline": None,
                          "ratio": None, "note": f"skipped: {reason}"})
        print(f"   {name:58} skipped: {reason}", flush=True)

    def fail(self, reason):
        self.failed = True
        self.rows.append({"name": self.name, "value": None, "unit": None, "baseline": None,
                          "ratio": None, "note": f"failed: {reason}"})
        print(f"   FAILED: {reason}", flush=True)

    def finish(self, seconds):
        folder = os.path.join(build_dir(), "bench")
        os.makedirs(folder, exist_ok=True)
        path = os.path.join(folder, f"{self.name}.json")
        with open(path, "w", encoding="utf-8") as f:
            json.dump(self.rows, f, indent=1)
            f.write("\n")
        print(f"   {len(self.rows)} rows in {path} ({seconds:.0f} s)", flush=True)
