{#
  Quotient of two doubles; NULL for a zero denominator (DuckDB would give inf, Postgres an error).
#}
{% macro safe_divide(numerator, denominator) -%}
    (({{ numerator }}) / nullif({{ denominator }}, 0))
{%- endmacro %}
