"""How many of the mutants of the last `mutmut run` the unit tests noticed; exit code 1 below 90 %."""

import json
import re
import subprocess
import sys
from pathlib import Path

LEAST_SHARE = 0.9
MUTMUT = Path(sys.executable).with_name("mutmut")
EQUIVALENT = {
    "newest = max(self.folder.epochs(), default=None)": "no epoch is None or 0, and the message says the same of both",
}
"""Changed line -> why no test can notice it."""


def run(*arguments: str) -> str:
    """What mutmut prints."""
    return subprocess.run([MUTMUT, *arguments], capture_output=True, text=True, check=True).stdout


def main() -> int:
    """Print the score, and the changed lines that went unnoticed."""
    run("export-cicd-stats")
    stats = json.loads(Path("mutants/mutmut-cicd-stats.json").read_text())
    noticed = stats["killed"] + stats["timeout"]
    print(f"{noticed} of {stats['total']} mutants noticed: {noticed / stats['total']:.1%}")
    for name in re.findall(r"(\S+): (?:survived|no tests|suspicious)", run("results")):
        [line, *_] = re.findall(r"^\+\s*(?!\+\+ )(.+)$", run("show", name), re.MULTILINE)
        print(f"  {name}\n    {line}\n    {EQUIVALENT.get(line, 'no test notices it')}")
    return int(noticed < LEAST_SHARE * stats["total"])


if __name__ == "__main__":
    sys.exit(main())
