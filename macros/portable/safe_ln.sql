{#
  Natural logarithm; NULL where it is not defined (DuckDB would give -inf or NaN, Postgres an error).
#}
{% macro safe_ln(expression) -%}
    ln(case when {{ expression }} > 0 then {{ expression }} end)
{%- endmacro %}
