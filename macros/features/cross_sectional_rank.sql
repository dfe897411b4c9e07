{#
  Rank in (0, 1) among the non-NULL values of a session: (average rank - 0.5) / n. Ties share their
  average rank. One sort gives both ends of a tie: rank() is its first place, the running count
  including peers its last.
    column      the value
    partition   what the ranking runs within (trade_date)
#}
{% macro cross_sectional_rank(column, partition) -%}
    case
        when {{ column }} is not null
            then
                (
                    (
                        cast(rank() over (partition by {{ partition }} order by {{ column }} nulls last) as double precision)
                        + count({{ column }}) over (partition by {{ partition }} order by {{ column }} nulls last)
                    ) / 2 - 0.5
                ) / nullif(count({{ column }}) over (partition by {{ partition }}), 0)
    end
{%- endmacro %}
