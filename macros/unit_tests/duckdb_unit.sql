{#
  Unit tests on DuckDB, in place of dbt's own materialization: it asks DuckDB to describe the model's
  query, where dbt creates an empty temporary table of it, looks at its columns and drops it again. The
  rest is dbt's, but for `sql_header`: expected rows in the model's own types, and both sides in one
  result, which dbt compares.
#}
{% materialization unit, adapter='duckdb' %}
    {%- set expected_rows = config.get('expected_rows') -%}
    {%- set types = {} -%}
    {%- set quoted = {} -%}
    {%- for column in adapter.get_column_schema_from_query(sql) -%}
        {%- do types.update({column.name | lower: column.data_type}) -%}
        {%- do quoted.update({column.name | lower: column.quoted}) -%}
    {%- endfor -%}

    {%- set expected_sql = config.get('expected_sql') or get_expected_sql(expected_rows, types, quoted) -%}
    {%- set compared = [] -%}
    {%- for name in (expected_rows[0] if expected_rows else quoted) -%}
        {%- do compared.append(quoted[name | lower]) -%}
    {%- endfor -%}

    {% call statement('main', fetch_result=True) -%}
        {{ get_unit_test_sql(sql, expected_sql, compared) }}
    {%- endcall %}

    {{ return({'relations': []}) }}
{% endmaterialization %}
