{#
  Least-squares slope of a column on the session index over the latest n sessions, n even; NULL
  unless the frame is full and has no missing value.
    column      one of `nullable` of with_rolling()
  sum((i - mean(i)) * y) / sum((i - mean(i))^2), where the divisor is n * (n^2 - 1) / 12 and the
  weights of the rows at the two ends differ in sign alone.
#}
{% macro rolling_slope(column, n) -%}
    {{ return(adapter.dispatch('rolling_slope', 'asx_warehouse')(column, n)) }}
{%- endmacro %}

{% macro default__rolling_slope(column, n) -%}
    (
        (
            {%- for k in range(n // 2) -%}
                {{ (n - 1) / 2 - k }} * ({{ lagged(column, k) }} - {{ lagged(column, n - 1 - k) }})
                {{- ' + ' if not loop.last }}
            {% endfor -%}
        ) / {{ n * (n * n - 1) / 12 }}
    )
{%- endmacro %}

{# The array has NaN for a missing value, which makes a NaN of any sum. #}
{% macro postgres__rolling_slope(column, n) -%}
    {{ or_null(default__rolling_slope(column, n)) }}
{%- endmacro %}
