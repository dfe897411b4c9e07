{#
  Half width of the 95 % interval of the mean of a series whose neighbours depend on each other, as
  mean_interval of ml/intervals.py, where the sources are: the interval is the mean less and plus it.

      half_widths as ({{ interval_half_widths('deviations', ['run_id'], ['net_return']) }})

  No row where a series has fewer than 42 sessions, two horizons, which cannot tell their own dependence.
    relation  one row per key and session: place (0, 1, ...), n_sessions, and each column as the
              session's distance from the mean, or its part in a statistic's error; sessions without
              a row count as 0
#}
{% macro interval_half_widths(relation, keys, columns) -%}
    {%- set length = 'cast(n_sessions as double precision)' -%}
    select
        {{ keys | join(', ') }},
        {% for column in columns -%}
            {{ student_t_975('count(*)') }} * sqrt(avg({{ column }} * {{ column }}) / n_sessions) as {{ column }}{{ ',' if not loop.last }}
        {% endfor %}
    from (
        select
            {{ keys | join(', ') }},
            n_sessions,
            term,
            {% for column in columns -%}
                sum({{ column }} * sqrt(2 / {{ length }}) * cos(pi() * term * (place + 0.5) / {{ length }})) as {{ column }}{{ ',' if not loop.last }}
            {% endfor %}
        from {{ relation }}
        -- as many as 66 years of sessions have
        cross join generate_series(1, 400) as terms (term)
        where term <= least(floor(0.4 * power({{ length }}, cast(2 as double precision) / 3)), floor({{ length }} / 42))
        group by {{ keys | join(', ') }}, n_sessions, term
    ) as cosine_coefficients
    group by {{ keys | join(', ') }}, n_sessions
{%- endmacro %}
