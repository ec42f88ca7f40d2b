r"""Have each case be trained on once: the same cases, divided in as many ways as there are parts.

Some cases are easier than others, and with twenty of them that alone moves an attack's figure by
0.1 (`membership.py`). So each site's cases are dealt into parts, and each rotation trains on
another part and holds out the others: over all rotations every case is on either side.

    python benchmarks/rotations.py out/baselines/data/mock-60-40 out/rotations \
        --sites runmc,i2cvb,bidmc,hk
"""

import argparse
import csv
import random
import shutil
from pathlib import Path

from wardround.site_client.data.readers import list_cases
from wardround.site_client.data.split import SPLIT_FILE

SEED = 5


def main() -> None:
    """Write one folder of sites for each rotation."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="folder with one folder a site")
    parser.add_argument("out", type=Path, help="folder to make; must not exist")
    parser.add_argument("--sites", required=True, help="which of them, with commas between")
    parser.add_argument("--parts", type=int, default=3, help="rotations (3)")
    given = parser.parse_args()
    given.out.mkdir(parents=True)
    for rotation in range(given.parts):
        root = given.out / f"data-{rotation}"
        rows = []
        for site in given.sites.split(","):
            shutil.copytree(given.data / site, root / site)
            (root / site / SPLIT_FILE).unlink(missing_ok=True)
            cases = sorted(case.case_id for case in list_cases(root / site).cases)
            random.Random(SEED).shuffle(cases)  # noqa: S311 - nothing secret
            sides = ["train" if n % given.parts == rotation else "test" for n in range(len(cases))]
            rows += [(site, case, side) for case, side in zip(cases, sides, strict=True)]
        with (root / SPLIT_FILE).open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("site", "case", "split"), *rows])
        print(root)


if __name__ == "__main__":
    main()
