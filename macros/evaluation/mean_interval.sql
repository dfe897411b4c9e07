{#
  Interval of the mean of a series whose neighbours depend on each other: mean_interval of
  ml/intervals.py, where the sources are, in SQL. Two CTEs:

      coefficients as ({{ cosine_coefficients('deviations', ['run_id'], ['net_return']) }}),
      half_widths as ({{ interval_half_widths('coefficients', ['run_id'], ['net_return']) }})

  The interval is the mean less and plus `net_return` of half_widths: 95 %, no row where a series has
  fewer than 42 sessions, two horizons, which cannot tell their own dependence.
    relation  one row per key and session of `deviations`: place (0, 1, ...), n_sessions, and each
              column as the session's distance from the mean, or its part in a statistic's error;
              sessions without a row count as 0
#}
{% macro cosine_coefficients(relation, keys, columns) -%}
    {%- set length = 'cast(n_sessions as double precision)' -%}
    select
        {{ keys | join(', ') }},
        n_sessions,
        term,
        {% for column in columns -%}
            sum({{ column }} * sqrt(2 / {{ length }}) * cos(pi() * term * (place + 0.5) / {{ length }})) as {{ column }}{{ ',' if not loop.last }}
        {% endfor %}
    from {{ relation }}
    cross join generate_series(1, 400) as terms (term)
    where term <= greatest(1, least(floor(0.4 * power({{ length }}, cast(2 as double precision) / 3)), floor({{ length }} / 42)))
    group by {{ keys | join(', ') }}, n_sessions, term
{%- endmacro %}

{% macro interval_half_widths(coefficients, keys, columns) -%}
    select
        {{ keys | join(', ') }},
        {% for column in columns -%}
            {{ student_t_975('count(*)') }} * sqrt(avg({{ column }} * {{ column }}) / n_sessions) as {{ column }}{{ ',' if not loop.last }}
        {% endfor %}
    from {{ coefficients }}
    where n_sessions >= 42
    group by {{ keys | join(', ') }}, n_sessions
{%- endmacro %}
