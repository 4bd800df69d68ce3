#!/usr/bin/python3
"""Size caps: a function has at most 70 lines, a file at most 1,000.

A flat table or switch may be longer when the comment right above it says `lint: flat`.
Relies on clang-format's layout: a function's braces stand alone in the first column.
"""
import glob
import os
import sys

FUNCTION_MAX, FILE_MAX = 70, 1000


def functions(lines):
    """Yields (line of the signature's start, lines in all, flagged flat)."""
    start = None
    for i, line in enumerate(lines):
        if line == "{":
            start = i
            while start > 0 and lines[start - 1] and not lines[start - 1].startswith(("#", "}", "/*", " *")):
                start -= 1
        elif line.startswith("}") and start is not None:
            above = "\n".join(lines[max(0, start - 4):start])
            yield start + 1, i - start + 1, "lint: flat" in above
            start = None


def main():
    os.chdir(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
    bad = False
    paths = [p for pattern in ("*/*.[ch]", "*/*/*.[ch]") for p in glob.glob(pattern)
             if not p.startswith("build")]
    for path in sorted(paths):
        with open(path, encoding="utf-8") as f:
            lines = f.read().split("\n")
        if len(lines) - 1 > FILE_MAX:
            print(f"{path}: {len(lines) - 1} lines; {FILE_MAX} at most: a second noun hides in it")
            bad = True
        for line, length, flat in functions(lines):
            if length > FUNCTION_MAX and not flat:
                print(f"{path}:{line}: function of {length} lines; {FUNCTION_MAX} at most")
                bad = True
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
