"""A sample market, loaded, built by dbt, trained on and judged: everything as a user has it."""

from __future__ import annotations

from pathlib import Path

import yaml
from built_warehouse import Warehouse

SMALL = {
    "classifier": {"trees_final": 12, "trees_fold": 12},
    "regressor": {"trees_final": 12, "trees_fold": 12},
    "lightgbm": {"num_leaves": 8},
    "folds": {"blocks": 2, "holdout": 42},
    "evaluation": {"replicates": 60},
    "threads": 2,
}


def build_market(folder: Path) -> Warehouse:
    built = Warehouse(folder)
    sample = ("asxw", "sample-market", str(folder / "data"), "--symbols", "60")
    built.run(*sample, "--sessions", "420")
    built.run("asxw", "load", str(folder / "data"), "--layout", "sample")
    built.run("dbt", "--quiet", "build", "--exclude-resource-type", "unit_test", "test")
    (folder / "small.yml").write_text(yaml.safe_dump(SMALL), encoding="utf-8")
    artifacts = ("--artifacts", str(folder / "artifacts"))
    built.run("asxw", "train", "--config", str(folder / "small.yml"), *artifacts)
    built.run("dbt", "--quiet", "build", "--select", "source:ml+", "--exclude-resource-type",
              "unit_test")  # fmt: skip
    return built
