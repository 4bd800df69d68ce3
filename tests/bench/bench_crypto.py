"""What sealing costs; libsodium is the baseline of libcrypto."""
from program import results


def run(report):
    rows = {row["name"]: row for row in results("crypto")}
    for name, row in rows.items():
        sodium = rows.get(name.replace("libcrypto", "libsodium")) if "libcrypto" in name else None
        report.add(name, row["value"], row["unit"], sodium and sodium["value"])
