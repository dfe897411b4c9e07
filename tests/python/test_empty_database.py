"""A build needs neither data nor a database, and a second build stands beside the first."""

from __future__ import annotations

from pathlib import Path

import pytest
from built_warehouse import Warehouse

BUILD = ("dbt", "--quiet", "build", "--exclude-resource-type", "unit_test")
LAYERS = {"staging", "intermediate", "marts", "ml", "snapshots"}

pytestmark = pytest.mark.slow


def schemas(warehouse: Warehouse) -> set[str]:
    found = warehouse.rows("select distinct table_schema from information_schema.tables")
    return {schema for (schema,) in found}


def test_a_build_on_an_empty_database_is_green_and_a_prefixed_one_stands_beside_it(
    tmp_path: Path,
) -> None:
    warehouse = Warehouse(tmp_path)
    warehouse.run(*BUILD)
    assert schemas(warehouse) == LAYERS | {"raw"}
    warehouse.run(*BUILD, "--vars", "{schema_prefix: b_, market: us}")
    assert schemas(warehouse) == LAYERS | {"raw"} | {f"b_{layer}" for layer in LAYERS}
