{#
  Least-squares slope of a column on the session index over the latest n sessions, n even; NULL
  unless the frame is full and has no missing value.
    column      column of doubles; the stage names the window in_spell
  sum((i - mean(i)) * y) / sum((i - mean(i))^2), where the divisor is n * (n^2 - 1) / 12 and the
  weights of the rows at the two ends differ in sign alone.
#}
{% macro rolling_slope(column, n) -%}
    (
        (
            {%- for k in range(n // 2) -%}
                {{ (n - 1) / 2 - k }} * ({{ column if k == 0 else 'lag(' ~ column ~ ', ' ~ k ~ ') over in_spell' }} - lag({{ column }}, {{ n - 1 - k }}) over in_spell)
                {{- ' + ' if not loop.last }}
            {% endfor -%}
        ) / {{ n * (n * n - 1) / 12 }}
    )
{%- endmacro %}
