{#
  Creates the tables that Python writes (sources raw and ml), empty, where they do not exist yet,
  so that a build on an empty database is green. The sources' YAML is the contract: its columns
  and types are the DDL.
#}
{% macro create_contract_tables() %}
    {% if execute and flags.WHICH in ['build', 'run', 'seed', 'snapshot', 'test'] %}
        {% set created_schemas = [] %}
        {% for table in graph.sources.values() if table.package_name == project_name %}
            {% if table.schema not in created_schemas %}
                {% do run_query('create schema if not exists ' ~ adapter.quote(table.schema)) %}
                {% do created_schemas.append(table.schema) %}
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
        {% endfor %}
    {% endif %}
{% endmacro %}
