{#
  Rank in (0, 1) among the values of a session: (average rank - 0.5) / n. Ties share their average
  rank; a NULL has none and does not count.

    with_ranks(relation, columns)           what a stage that ranks selects from
      relation   a CTE with session_idx, whose name stays valid
      columns    columns of finite doubles that are ranked
    cross_sectional_rank(relation, column)  the rank

  DuckDB: one sort gives both ends of a tie: rank() is its first place, cume_dist() times the rows of
  the session its last.

  Postgres would sort every column with the whole row attached to it. There a session's values are
  gathered in one sorted array a column, and each value is looked up in it: width_bucket() counts, by
  halving, the elements that are not above a number. That number is the value for the last place of a
  tie, and the next smaller double for what lies before the first.
#}
{% macro with_ranks(relation, columns) -%}
    {{ return(adapter.dispatch('with_ranks', 'asx_warehouse')(relation, columns)) }}
{%- endmacro %}

{% macro default__with_ranks(relation, columns) -%}
    {{ relation }}
{%- endmacro %}

{% macro postgres__with_ranks(relation, columns) -%}
    (
        select
            {{ relation }}.*
            {%- for column in columns -%},
            of_session.sorted_{{ column }}
            {%- endfor %}
        from {{ relation }}
        inner join (
            select
                session_idx
                {%- for column in columns -%},
                array_agg({{ column }} order by {{ column }}) filter (where {{ column }} is not null)
                    as sorted_{{ column }}
                {%- endfor %}
            from {{ relation }}
            group by session_idx
        ) as of_session
            on {{ relation }}.session_idx = of_session.session_idx
    ) as {{ relation }}
{%- endmacro %}

{% macro cross_sectional_rank(relation, column) -%}
    {{ return(adapter.dispatch('cross_sectional_rank', 'asx_warehouse')(relation, column)) }}
{%- endmacro %}

{% macro default__cross_sectional_rank(relation, column) -%}
    {%- set value = relation ~ '.' ~ column -%}
    {%- set session = 'partition by ' ~ relation ~ '.session_idx' -%}
    case
        when {{ value }} is not null
            then
                (
                    (
                        cast(rank() over ({{ session }} order by {{ value }} nulls last) as double precision)
                        + round(
                            cume_dist() over ({{ session }} order by {{ value }} nulls last)
                            * count(*) over ({{ session }})
                        )
                    ) / 2 - 0.5
                ) / nullif(count({{ value }}) over ({{ session }}), 0)
    end
{%- endmacro %}

{% macro postgres__cross_sectional_rank(relation, column) -%}
    {%- set value = relation ~ '.' ~ column -%}
    {%- set sorted = relation ~ '.sorted_' ~ column -%}
    (
        (width_bucket({{ value }}, {{ sorted }}) + width_bucket({{ next_smaller(value) }}, {{ sorted }}))
        / cast(2 * cardinality({{ sorted }}) as double precision)
    )
{%- endmacro %}

{#
  The largest double below a value. Its distance is between half a unit in the last place and one, the
  factor being a little above 2^-53, so the difference is rounded to it. Products of values below
  1e-290 would run into zero, which is an error on Postgres: there any smaller number will do.
#}
{% macro next_smaller(value) -%}
    case
        when abs({{ value }}) > 1e-290 then {{ value }} - abs({{ value }}) * 1.1102230246251568e-16
        else {{ value }} - 1e-306
    end
{%- endmacro %}
