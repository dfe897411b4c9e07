{#
  Rank in (0, 1) among the non-NULL values of a session: (average rank - 0.5) / n. Ties share their
  average rank. One sort gives both ends of a tie: rank() is its first place, cume_dist() times the
  rows of the session its last.
    column      the value
    partition   what the ranking runs within (session_idx)
#}
{% macro cross_sectional_rank(column, partition) -%}
    case
        when {{ column }} is not null
            then
                (
                    (
                        cast(rank() over (partition by {{ partition }} order by {{ column }} nulls last) as double precision)
                        + round(
                            cume_dist() over (partition by {{ partition }} order by {{ column }} nulls last)
                            * count(*) over (partition by {{ partition }})
                        )
                    ) / 2 - 0.5
                ) / nullif(count({{ column }}) over (partition by {{ partition }}), 0)
    end
{%- endmacro %}
