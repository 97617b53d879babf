"""`make audit`: what is installed, looked up among known vulnerabilities; says so where the advisories can't be reached."""

from __future__ import annotations

import json
import subprocess
import sys


def main() -> int:
    """0: nothing is known of what was looked up; 1: something is; 2: nothing could be looked up."""
    command = [sys.executable, "-m", "pip_audit", "--local", "--skip-editable", "--progress-spinner", "off", "--format", "json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        packages = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        packages = []
    looked_up = [package for package in packages if "vulns" in package]
    if not looked_up:
        print("the advisories can't be reached from this machine: nothing was audited")
        return 2
    known = [(package["name"], package["version"], vuln["id"]) for package in looked_up for vuln in package["vulns"]]
    for name, version, advisory in known:
        print(f"{name} {version}: {advisory}")
    print(f"{len(looked_up)} of {len(packages)} packages looked up, {len(known)} advisories")
    return 1 if known else 0


if __name__ == "__main__":
    sys.exit(main())
