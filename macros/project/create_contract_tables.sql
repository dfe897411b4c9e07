{#
  Creates the tables that Python writes (sources raw and ml), empty, where they do not exist yet,
  so that a build on an empty database is green. The sources' YAML is the contract: its columns
  and types are the DDL. A raw table that the var raw_mapping names becomes a view of a table the
  team already has (docs/own_tables.md), and a table again once the var no longer names it. A view that
  somebody else made in the place of a raw table stays as it is.
#}
{% macro create_contract_tables() %}
    {% if execute and flags.WHICH in ['build', 'run', 'seed', 'snapshot', 'test'] %}
        {% set mapping = var('raw_mapping') or {} %}
        {% set created_schemas = [] %}
        {% set raw_tables = [] %}
        {% set kinds = relation_kinds() %}
        {% set mapped_views = made_by_mapping() %}
        {% for table in graph.sources.values() if table.package_name == project_name %}
            {% do raw_tables.append(table.name) if table.source_name == 'raw' %}
            {% if table.schema not in created_schemas %}
                {% do run_query('create schema if not exists ' ~ adapter.quote(table.schema)) %}
                {% do created_schemas.append(table.schema) %}
            {% endif %}
            {% if table.source_name == 'raw' and table.name in mapping %}
                {% do create_mapped_view(table, mapping[table.name], kinds) %}
            {% else %}
                {# `create table if not exists` would take the view of an earlier mapping for the table #}
                {% if table.schema ~ '.' ~ table.identifier in mapped_views %}
                    {% do drop_with_dependents(table, 'view') %}
                {% endif %}
                {% set columns = [] %}
                {% for column in table.columns.values() %}
                    {% set meta = column_meta(column) %}
                    {% do columns.append(
                        adapter.quote(column.name) ~ ' ' ~ column.data_type
                        ~ (' not null' if meta.get('required') else '')
                    ) %}
                {% endfor %}
                {% do run_query(
                    'create table if not exists ' ~ adapter.quote(table.schema) ~ '.'
                    ~ adapter.quote(table.identifier) ~ ' (' ~ columns | join(', ') ~ ')'
                ) %}
            {% endif %}
        {% endfor %}
        {% for name in mapping if name not in raw_tables %}
            {{ exceptions.raise_compiler_error(
                "var raw_mapping names " ~ name ~ ", which is no raw table; there are: " ~ raw_tables | join(', ')
            ) }}
        {% endfor %}
    {% endif %}
{% endmacro %}

{#
  Every relation of the database and what it is. Not adapter.get_relation: on DuckDB it opens a
  transaction that nobody commits, and all the hook has created is gone.
#}
{% macro relation_kinds() %}
    {% set kinds = {} %}
    {% set found = run_query(
        'select table_schema, table_name, table_type from information_schema.tables '
        ~ 'where table_catalog = current_database()'
    ) %}
    {% for row in found.rows %}
        {% do kinds.update({row[0] ~ '.' ~ row[1]: row[2]}) %}
    {% endfor %}
    {{ return(kinds) }}
{% endmacro %}

{# The views that create_mapped_view has made, which a comment on them says. #}
{% macro made_by_mapping() %}
    {% set names = [] %}
    {% for row in run_query(adapter.dispatch('commented_views', 'asx_warehouse')()).rows if row[2] == mapping_comment() %}
        {% do names.append(row[0] ~ '.' ~ row[1]) %}
    {% endfor %}
    {{ return(names) }}
{% endmacro %}

{% macro mapping_comment() -%}
    made from var raw_mapping
{%- endmacro %}

{% macro default__commented_views() -%}
    select schema_name, view_name, comment from duckdb_views() where database_name = current_database()
{%- endmacro %}

{% macro postgres__commented_views() -%}
    select n.nspname, c.relname, obj_description(c.oid, 'pg_class')
    from pg_catalog.pg_class as c
    inner join pg_catalog.pg_namespace as n on c.relnamespace = n.oid
    where c.relkind = 'v'
{%- endmacro %}

{#
  Drops a raw table or view. PostgreSQL drops the views on it as well; dbt, which has listed them
  already and would rename them, is told.
#}
{% macro drop_with_dependents(table, kind) %}
    {% do run_query(
        'drop ' ~ kind ~ ' ' ~ adapter.quote(table.schema) ~ '.' ~ adapter.quote(table.identifier) ~ ' cascade'
    ) %}
    {% if target.type == 'postgres' %}
        {% set left = relation_kinds() %}
        {% for node in graph.nodes.values() if node.resource_type == 'model' %}
            {% set listed = adapter.get_relation(node.database, node.schema, node.alias) %}
            {% if listed is not none and node.schema ~ '.' ~ node.alias not in left %}
                {% do adapter.cache_dropped(listed) %}
            {% endif %}
        {% endfor %}
    {% endif %}
{% endmacro %}

{#
  One raw table as a view: every column of the contract, cast to its type, from the expression the
  mapping gives, NULL without one. A bar without a knowledge time of its own is known at its
  session's decision time.
#}
{% macro create_mapped_view(table, entry, kinds) %}
    {% set name = adapter.quote(table.schema) ~ '.' ~ adapter.quote(table.identifier) %}
    {% set given = entry.columns %}
    {% for column in given if column not in table.columns %}
        {{ exceptions.raise_compiler_error(
            "var raw_mapping." ~ table.name ~ " maps " ~ column ~ ", which raw." ~ table.name ~ " has not; it has: "
            ~ table.columns.keys() | join(', ')
        ) }}
    {% endfor %}
    {% set columns = [] %}
    {% for column in table.columns.values() %}
        {% if column.name in given %}
            {% set value = given[column.name] %}
        {% elif table.name == 'prices' and column.name == 'available_at' %}
            {% set value = decision_at(given.trade_date) %}
        {% elif column.name == 'source' %}
            {% set value = "'" ~ entry.relation ~ "'" %}
        {% elif column_meta(column).get('required') %}
            {{ exceptions.raise_compiler_error(
                "var raw_mapping." ~ table.name ~ " gives no " ~ column.name ~ ", which every row needs."
            ) }}
        {% else %}
            {% set value = 'null' %}
        {% endif %}
        {% do columns.append(
            'cast(' ~ value ~ ' as ' ~ column.data_type ~ ') as ' ~ adapter.quote(column.name)
        ) %}
    {% endfor %}
    {% if kinds.get(table.schema ~ '.' ~ table.identifier) == 'BASE TABLE' %}
        {% if run_query('select 1 from ' ~ name ~ ' limit 1').rows | length > 0 %}
            {{ exceptions.raise_compiler_error(
                "raw." ~ table.name ~ " is mapped to " ~ entry.relation ~ ", but holds loaded rows. Empty it, or "
                ~ "take it out of var raw_mapping."
            ) }}
        {% endif %}
        {% do drop_with_dependents(table, 'table') %}
    {% endif %}
    {% do run_query(
        'create or replace view ' ~ name ~ ' as select ' ~ columns | join(', ') ~ ' from ' ~ entry.relation
        ~ (' where ' ~ entry.where if entry.where else '')
    ) %}
    {% do run_query('comment on view ' ~ name ~ " is '" ~ mapping_comment() ~ "'") %}
{% endmacro %}
