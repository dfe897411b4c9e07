{#
  Mean over a window frame; NULL where the frame holds no value. Arguments as for rolling_sum.
#}
{% macro rolling_mean(values, window, magnitude=30, resolution=-66) -%}
    {{ return(adapter.dispatch('rolling_mean', 'asx_warehouse')(values, window, magnitude, resolution)) }}
{%- endmacro %}

{% macro default__rolling_mean(values, window, magnitude, resolution) -%}
    avg({{ values }}) over {{ window }}
{%- endmacro %}

{% macro postgres__rolling_mean(values, window, magnitude, resolution) -%}
    (
        {{ postgres_moving_sum(values, window, magnitude, resolution) }}
        / nullif(count({{ values }}) over {{ window }}, 0)
    )
{%- endmacro %}
