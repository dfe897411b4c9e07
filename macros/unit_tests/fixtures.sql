{#
  Given and expected rows of unit tests, in place of dbt's own macros of these names. dbt writes each
  row as a `select`, all of them under `union all`, and each cell through several macros; this writes
  one `values` list of texts and casts each column once. The same columns, types and values, read and
  planned in a fraction of the time.
#}

{#
  A given fixture has every column of its relation, NULL where a row does not name it.
    types   dbt passes none
#}
{% macro get_fixture_sql(rows, types) %}
{%- set relation = defer_relation if (defer_relation and not load_relation(this)) else this -%}
{%- set types = {} -%}
{%- set quoted = {} -%}
{%- for column in adapter.get_columns_in_relation(relation) -%}
    {%- do types.update({column.name | lower: column.data_type}) -%}
    {%- do quoted.update({column.name | lower: column.quoted}) -%}
{%- else -%}
    {%- do exceptions.raise_compiler_error(
        "Not able to get columns for unit test '" ~ model.name ~ "' from relation " ~ relation
        ~ " because the relation doesn't exist"
    ) -%}
{%- endfor -%}
{%- set rows = fixture_rows(rows, types, "'" ~ model.name ~ "'") -%}
{{ fixture_values(rows, types | list, types, quoted) }}
{% endmacro %}


{# Expected rows all name the same columns, those that are compared. #}
{% macro get_expected_sql(rows, types, quoted) %}
{%- if rows -%}
    {%- set rows = fixture_rows(rows, types, "expected output") -%}
    {%- for row in rows if row | sort != rows[0] | sort -%}
        {%- do exceptions.raise_compiler_error(
            "Every row of the expected output must name the columns of the first (" ~ (rows[0] | list)
            ~ "), and one names " ~ (row | list)
        ) -%}
    {%- endfor -%}
    {{ fixture_values(rows, rows[0] | list, types, quoted) }}
{%- else -%}
    select * from dbt_internal_unit_test_actual limit 0
{%- endif -%}
{% endmacro %}


{# The rows, each value as a literal by its column's name in small letters. #}
{% macro fixture_rows(rows, types, fixture_name) %}
{%- set literals = [] -%}
{%- for row in rows -%}
    {%- set literal = {} -%}
    {%- for name, value in row.items() -%}
        {%- if name | lower not in types -%}
            {%- do exceptions.raise_compiler_error(
                "Invalid column name: '" ~ name ~ "' in unit test fixture for " ~ fixture_name ~ ".\n"
                ~ "Accepted columns for " ~ fixture_name ~ " are: " ~ (types | list)
            ) -%}
        {%- endif -%}
        {%- do literal.update({
            name | lower: "null" if value is none else "'" ~ (value | string | replace("'", "''")) ~ "'"
        }) -%}
    {%- endfor -%}
    {%- do literals.append(literal) -%}
{%- endfor -%}
{{ return(literals) }}
{% endmacro %}


{# Those of `columns` that no row names are NULL. A text is cast to no length, so that none is cut. #}
{% macro fixture_values(rows, columns, types, quoted) %}
{%- set named = [] -%}
{%- for row in rows -%}
    {%- for name in row if name not in named -%}
        {%- do named.append(name) -%}
    {%- endfor -%}
{%- endfor -%}
select
{%- for name in columns %}
    {%- set type = types[name].split('(')[0] if 'varying' in types[name] else types[name] %}
    cast({{ quoted[name] if name in named else "null" }} as {{ type }}) as {{ quoted[name] }}
    {{- "," if not loop.last }}
{%- endfor %}
{%- if rows %}
from (
    values
{%- for row in rows %}
    (
    {%- for name in named -%}
        {{ row.get(name, "null") }}{{ ", " if not loop.last }}
    {%- endfor -%}
    ){{ "," if not loop.last }}
{%- endfor %}
) as fixture ({% for name in named %}{{ quoted[name] }}{{ ", " if not loop.last }}{% endfor %})
{%- else %}
limit 0
{%- endif %}
{% endmacro %}
