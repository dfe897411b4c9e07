{#
  Median over a window frame, interpolated as percentile_cont does.
    values   expression of doubles
    window   name of a window with its frame
  Postgres has no median as a window function; moving_median (window_functions.sql) keeps the frame
  sorted from row to row.
#}
{% macro rolling_median(values, window) -%}
    {{ return(adapter.dispatch('rolling_median', 'asx_warehouse')(values, window)) }}
{%- endmacro %}

{% macro default__rolling_median(values, window) -%}
    median({{ values }}) over {{ window }}
{%- endmacro %}

{% macro postgres__rolling_median(values, window) -%}
    {{ window_function_schema() }}.moving_median({{ values }}) over {{ window }}
{%- endmacro %}
