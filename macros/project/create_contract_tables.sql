{#
  Creates the tables that Python writes (sources raw and ml), empty, where they do not exist yet,
  so that a build on an empty database is green. The sources' YAML is the contract: its columns
  and types are the DDL. A raw table that the var raw_mapping names becomes a view of a table the
  team already has (docs/own_tables.md).
#}
{% macro create_contract_tables() %}
    {% if execute and flags.WHICH in ['build', 'run', 'seed', 'snapshot', 'test'] %}
        {% set mapping = var('raw_mapping') or {} %}
        {% set created_schemas = [] %}
        {% set raw_tables = [] %}
        {% for table in graph.sources.values() if table.package_name == project_name %}
            {% do raw_tables.append(table.name) if table.source_name == 'raw' %}
            {% if table.schema not in created_schemas %}
                {% do run_query('create schema if not exists ' ~ adapter.quote(table.schema)) %}
                {% do created_schemas.append(table.schema) %}
            {% endif %}
            {% if table.source_name == 'raw' and table.name in mapping %}
                {% do create_mapped_view(table, mapping[table.name]) %}
            {% else %}
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
  One raw table as a view: every column of the contract, cast to its type, from the expression the
  mapping gives, NULL without one. A bar without a knowledge time of its own is known at its
  session's decision time.
#}
{% macro create_mapped_view(table, entry) %}
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
    {% set existing = adapter.get_relation(table.database, table.schema, table.identifier) %}
    {% if existing is not none and existing.is_table %}
        {% if run_query('select 1 from ' ~ name ~ ' limit 1').rows | length > 0 %}
            {{ exceptions.raise_compiler_error(
                "raw." ~ table.name ~ " is mapped to " ~ entry.relation ~ ", but holds loaded rows. Empty it, or "
                ~ "take it out of var raw_mapping."
            ) }}
        {% endif %}
        {% do run_query('drop table ' ~ name ~ ' cascade') %}
    {% endif %}
    {% do run_query(
        'create or replace view ' ~ name ~ ' as select ' ~ columns | join(', ') ~ ' from ' ~ entry.relation
        ~ (' where ' ~ entry.where if entry.where else '')
    ) %}
{% endmacro %}
