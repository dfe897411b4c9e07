{#
  Least-squares slope of values on an index that rises by one from row to row, over a full window
  frame: the caller asks whether the frame holds n values.
    values      expression of doubles
    index       column of whole numbers, below 2^15
    window      name of a window with its frame of n rows
    n           rows of the frame
    magnitude, resolution   as for rolling_sum
  Postgres: sum((i - mean(i)) * y) / sum((i - mean(i))^2), where mean(i) is the latest index less
  (n - 1) / 2 and the divisor n * (n^2 - 1) / 12.
#}
{% macro rolling_slope(values, index, window, n, magnitude=30, resolution=-110) -%}
    {{ return(adapter.dispatch('rolling_slope', 'asx_warehouse')(values, index, window, n, magnitude, resolution)) }}
{%- endmacro %}

{% macro default__rolling_slope(values, index, window, n, magnitude, resolution) -%}
    regr_slope({{ values }}, cast({{ index }} as double precision)) over {{ window }}
{%- endmacro %}

{% macro postgres__rolling_slope(values, index, window, n, magnitude, resolution) -%}
    (
        (
            {{ postgres_moving_sum(values ~ ' * ' ~ index, window, magnitude + 15, resolution) }}
            - {{ postgres_moving_sum(values, window, magnitude, resolution) }}
            * ({{ index }} - {{ (n - 1) / 2 }})
        ) / {{ n * (n * n - 1) / 12 }}
    )
{%- endmacro %}
