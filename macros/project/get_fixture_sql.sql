{#
  In place of dbt's own macros of these names. dbt writes a fixture as one `select` for each row, all of
  them under `union all`, and each cell through several macros; this writes one `values` list of texts and
  casts each column once. The same columns, types and values, read and planned in a fraction of the time.

  A given fixture has every column of its relation, NULL where the test does not name it; an expected
  one has the columns that its first row names.
#}
{% macro get_fixture_sql(rows, column_name_to_data_types) %}
{%- set column_name_to_data_types = column_name_to_data_types or {} -%}
{%- set column_name_to_quoted = {} -%}
{%- if not column_name_to_data_types -%}
    {%- set relation = defer_relation if (defer_relation and not load_relation(this)) else this -%}
    {%- for column in adapter.get_columns_in_relation(relation) -%}
        {%- do column_name_to_data_types.update({column.name | lower: column.data_type}) -%}
        {%- do column_name_to_quoted.update({column.name | lower: column.quoted}) -%}
    {%- endfor -%}
    {%- if not column_name_to_data_types -%}
        {%- do exceptions.raise_compiler_error(
            "Not able to get columns for unit test '" ~ model.name ~ "' from relation " ~ relation
            ~ " because the relation doesn't exist"
        ) -%}
    {%- endif -%}
{%- endif -%}
{{ fixture_rows(rows, column_name_to_data_types, column_name_to_quoted, "'" ~ model.name ~ "'", true) }}
{% endmacro %}


{% macro get_expected_sql(rows, column_name_to_data_types, column_name_to_quoted) %}
{%- if rows -%}
    {{ fixture_rows(rows, column_name_to_data_types, column_name_to_quoted, "expected output", false) }}
{%- else -%}
    select * from dbt_internal_unit_test_actual limit 0
{%- endif -%}
{% endmacro %}


{% macro fixture_rows(rows, types, quoted, fixture_name, all_columns) %}
{%- set named = [] -%}
{%- for row in rows -%}
    {%- for name in row if name not in named -%}
        {%- do named.append(name) -%}
    {%- endfor -%}
{%- endfor -%}
{%- for name in named if name | lower not in types -%}
    {%- do exceptions.raise_compiler_error(
        "Invalid column name: '" ~ name ~ "' in unit test fixture for " ~ fixture_name ~ ".\n"
        ~ "Accepted columns for " ~ fixture_name ~ " are: " ~ (types | list)
    ) -%}
{%- endfor -%}
{%- set named_lower = named | map("lower") | list -%}
select
{%- for name in (types if all_columns else named_lower) %}
    cast({{ quoted.get(name, name) if name in named_lower else "null" }} as {{ types[name].split('(')[0] if 'varying' in types[name] else types[name] }})
    {{- " as " ~ quoted.get(name, name) }}{{ "," if not loop.last }}
{%- endfor %}
{%- if rows %}
from (
    values
{%- for row in rows %}
    (
    {%- for name in named -%}
        {%- set value = row.get(name) -%}
        {{ "null" if value is none else "'" ~ (value | string | replace("'", "''")) ~ "'" }}
        {{- ", " if not loop.last -}}
    {%- endfor -%}
    ){{ "," if not loop.last }}
{%- endfor %}
) as fixture ({{ named_lower | map("lower") | join(", ") }})
{%- else %}
limit 0
{%- endif %}
{% endmacro %}
