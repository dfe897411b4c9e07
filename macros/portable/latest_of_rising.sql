{#
  The latest value, so far in a window, of an expression that never falls from row to row and is NULL
  in some. Postgres cannot ignore NULLs in a window; there it is the largest value, which is the same
  and on DuckDB costs four times as much.
    window   name of a window from unbounded preceding to the current row
#}
{% macro latest_of_rising(expression, window) -%}
    {{ return(adapter.dispatch('latest_of_rising', 'asx_warehouse')(expression, window)) }}
{%- endmacro %}

{% macro default__latest_of_rising(expression, window) -%}
    last_value({{ expression }} ignore nulls) over {{ window }}
{%- endmacro %}

{% macro postgres__latest_of_rising(expression, window) -%}
    max({{ expression }}) over {{ window }}
{%- endmacro %}
