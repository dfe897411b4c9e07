{#
  Mean over a window frame; NULL where the frame holds no value. Arguments as for rolling_sum.
#}
{% macro rolling_mean(values, window, magnitude=40) -%}
    {{ return(adapter.dispatch('rolling_mean', 'asx_warehouse')(values, window, magnitude)) }}
{%- endmacro %}

{% macro default__rolling_mean(values, window, magnitude) -%}
    avg({{ values }}) over {{ window }}
{%- endmacro %}

{% macro postgres__rolling_mean(values, window, magnitude) -%}
    (
        {{ postgres_moving_sum(values, window, magnitude) }}
        / nullif(count({{ values }}) over {{ window }}, 0)
    )
{%- endmacro %}
