{#
  The latest value, so far in a window, of an expression that never falls from row to row and is NULL
  in some: then it is also the largest, which every engine can say. DuckDB finds the last one that is
  not NULL in a quarter of the time of an aggregate over a growing frame.
    window   name of a window from unbounded preceding to the current row
#}
{% macro latest_of_rising(expression, window) -%}
    {{ return(adapter.dispatch('latest_of_rising', 'asx_warehouse')(expression, window)) }}
{%- endmacro %}

{% macro default__latest_of_rising(expression, window) -%}
    max({{ expression }}) over {{ window }}
{%- endmacro %}

{% macro duckdb__latest_of_rising(expression, window) -%}
    last_value({{ expression }} ignore nulls) over {{ window }}
{%- endmacro %}
