"""Three roles of a team's Postgres: bi_reader, ml_writer and transformer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import click

from ml.errors import AsxwError
from ml.postgres import PostgresWarehouse
from ml.warehouse import open_warehouse, project_vars

BI_READER, ML_WRITER, TRANSFORMER = "bi_reader", "ml_writer", "transformer"
ROLES = (BI_READER, ML_WRITER, TRANSFORMER)
CLOSED = ("raw", "staging", "intermediate", "snapshots")
PANEL = "int_training_panel"


def layer_schemas(variables: Mapping[str, Any]) -> dict[str, str]:
    """Schema of each layer."""
    prefix = str(variables.get("schema_prefix", ""))
    layers = {n: f"{prefix}{n}" for n in ("staging", "intermediate", "snapshots", "marts", "ml")}
    return layers | {"raw": str(variables["raw_schema"])}


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def statements(schemas: Mapping[str, str], database: str, builder: str) -> Iterator[str]:
    """Statements that set the roles up; each may run again without effect.

    Args:
        schemas: see layer_schemas.
        database: name of the database.
        builder: user who runs this; tables it creates later get the same rights.
    """
    for role in ROLES:
        yield (
            f"do $$ begin if not exists (select 1 from pg_roles where rolname = '{role}') "
            f"then create role {role} nologin; end if; end $$"
        )
    # whoever sets this up may act as transformer, which ownership below needs
    yield (
        f"do $$ begin if not pg_has_role(current_user, '{TRANSFORMER}', 'member') "
        f"then execute format('grant {TRANSFORMER} to %I', current_user); end if; end $$"
    )
    yield f'grant connect on database "{database}" to {", ".join(ROLES)}'
    yield f'grant create, temporary on database "{database}" to {TRANSFORMER}'
    yield f'grant temporary on database "{database}" to {ML_WRITER}'
    for schema in schemas.values():
        yield f'create schema if not exists "{schema}"'
        yield f'alter schema "{schema}" owner to {TRANSFORMER}'
        yield _own_everything(schema)
    # nothing of the raw, staging and intermediate layers but the panel, whatever was granted before
    closed = [s for layer, s in schemas.items() if layer in CLOSED]
    for schema in closed:
        yield f'revoke all on all tables in schema "{schema}" from {BI_READER}, {ML_WRITER}'
        yield f'revoke all on schema "{schema}" from {BI_READER}, {ML_WRITER}'
    marts, ml = schemas["marts"], schemas["ml"]
    yield f'revoke all on all tables in schema "{ml}" from {BI_READER}'
    yield f'revoke all on schema "{ml}" from {BI_READER}'
    yield f'grant usage on schema "{marts}" to {BI_READER}, {ML_WRITER}'
    yield f'grant select on all tables in schema "{marts}" to {BI_READER}, {ML_WRITER}'
    yield f'grant usage on schema "{ml}" to {ML_WRITER}'
    yield f'grant select, insert, update, delete on all tables in schema "{ml}" to {ML_WRITER}'
    for owner in dict.fromkeys((TRANSFORMER, builder)):
        default = f'alter default privileges for role "{owner}" in schema'
        yield f'{default} "{marts}" grant select on tables to {BI_READER}, {ML_WRITER}'
        yield (f'{default} "{ml}" grant select, insert, update, delete on tables to {ML_WRITER}')
    panel = f'"{schemas["intermediate"]}".{PANEL}'
    yield f'grant usage on schema "{schemas["intermediate"]}" to {ML_WRITER}'
    yield (
        f"do $$ begin if to_regclass({_literal(panel)}) is not null "
        f"then grant select on {panel} to {ML_WRITER}; end if; end $$"
    )


def _own_everything(schema: str) -> str:
    """Tables, views and functions of a schema go to transformer, or dbt could not replace them."""
    return f"""do $$
declare
    item record;
begin
    for item in
        select c.relkind, c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace
        where n.nspname = {_literal(schema)} and c.relkind in ('r', 'p', 'v', 'm', 'f')
            and c.relowner <> '{TRANSFORMER}'::regrole
    loop
        execute format(
            case item.relkind when 'v' then 'alter view %I.%I owner to {TRANSFORMER}'
                when 'm' then 'alter materialized view %I.%I owner to {TRANSFORMER}'
                else 'alter table %I.%I owner to {TRANSFORMER}' end,
            {_literal(schema)}, item.relname);
    end loop;
    for item in
        select p.oid::regprocedure as name
        from pg_proc p join pg_namespace n on n.oid = p.pronamespace
        where n.nspname = {_literal(schema)} and p.proowner <> '{TRANSFORMER}'::regrole
            and p.prokind in ('f', 'a')
    loop
        execute format('alter routine %s owner to {TRANSFORMER}', item.name);
    end loop;
end $$"""


@click.command("grant")
@click.option("--schema-prefix", default=None, help="Prefix of the schemas (default: the var).")
@click.option("--show", is_flag=True, help="Print the statements and change nothing.")
@click.pass_obj
def grant_command(settings: dict[str, Any], *, schema_prefix: str | None, show: bool) -> None:
    """Set up the roles bi_reader, ml_writer and transformer on Postgres; run it as an admin.

    All of it or nothing, and again whenever you like. Give people and tools a login of their own
    with `create role anna login in role bi_reader`.
    """
    project_dir = settings["project_dir"]
    variables = project_vars(project_dir)
    if schema_prefix is not None:
        variables["schema_prefix"] = schema_prefix
    schemas = layer_schemas(variables)
    with open_warehouse(project_dir, settings["target"]) as warehouse:
        if not isinstance(warehouse, PostgresWarehouse):
            raise AsxwError("DuckDB has no roles. Name a postgres target: asxw --target postgres.")
        database, user = warehouse.read_rows("select current_database()::text, current_user::text")[
            0
        ]
        wanted = list(statements(schemas, database, user))
        if show:
            click.echo(";\n".join(wanted) + ";")
            return
        with warehouse.transaction():
            for statement in wanted:
                warehouse.execute(statement)
    click.echo(
        f"{BI_READER} reads {schemas['marts']}; {ML_WRITER} reads {schemas['marts']} and {PANEL} "
        f"and writes {schemas['ml']}; {TRANSFORMER} owns all schemas."
    )
