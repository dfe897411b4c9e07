{#
  Median over a window frame.
    values   expression
    window   name of a window with its frame
  Postgres has no median as a window function: it collects the frame and takes the ordinary
  percentile, which is the same interpolation.
#}
{% macro rolling_median(values, window) -%}
    {{ return(adapter.dispatch('rolling_median', 'asx_warehouse')(values, window)) }}
{%- endmacro %}

{% macro default__rolling_median(values, window) -%}
    (
        select percentile_cont(0.5) within group (order by frame.value)
        from unnest(array_agg({{ values }}) over {{ window }}) as frame (value)
    )
{%- endmacro %}

{% macro duckdb__rolling_median(values, window) -%}
    median({{ values }}) over {{ window }}
{%- endmacro %}
