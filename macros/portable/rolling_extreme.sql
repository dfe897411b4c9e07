{#
  Largest or smallest value of the latest n sessions of a spell, looking at each; NULLs are passed over.
  For frames too long for that: rolling_order_statistic() of with_rolling.sql.
    function   greatest or least
    column     one of the columns of with_rolling()
    sessions   n
    step       sessions that each value stands for: 1, or m if the column is the extreme of the latest m
  Before a spell has n sessions it is the extreme of fewer values: the caller asks for n.
#}
{% macro rolling_extreme(function, column, sessions, step=1) -%}
    {{ function }}(
        {%- for k in range(0, sessions, step) -%}
            {{ lagged(column, k) }}{{ ', ' if not loop.last }}
        {%- endfor -%}
    )
{%- endmacro %}
