{#
  z-score within a session of a value winsorised at its 1 % and 99 % quantiles, in four steps that a
  model writes as four CTEs:
    winsor_limits(columns)                 aggregates of a session: <column>_low, <column>_high
    winsor_position(column, v, l)          where between the limits the value stands, 0 to 1 (v, l:
                                           aliases of values and limits): a z-score does not change
                                           with scale, and sums of such numbers are exact
    position_moments(columns)              aggregates of a session: <column>_members, _sum, _squares
    winsorised_zscore(column, p, m)        the z-score (p, m: aliases of positions and moments), NULL
                                           for fewer than zscore_min_members values or no deviation
#}
{% macro winsor_limits(columns) -%}
    {% for column in columns -%}
        percentile_cont(0.01) within group (order by {{ column }}) as {{ column }}_low,
        percentile_cont(0.99) within group (order by {{ column }}) as {{ column }}_high{{ ',' if not loop.last }}
    {% endfor -%}
{%- endmacro %}

{% macro winsor_position(column, values, limits) -%}
    case
        when {{ limits }}.{{ column }}_high > {{ limits }}.{{ column }}_low and {{ values }}.{{ column }} is not null
            then
                (
                    least(greatest({{ values }}.{{ column }}, {{ limits }}.{{ column }}_low), {{ limits }}.{{ column }}_high)
                    - {{ limits }}.{{ column }}_low
                ) / ({{ limits }}.{{ column }}_high - {{ limits }}.{{ column }}_low)
    end
{%- endmacro %}

{% macro position_moments(columns) -%}
    {% for column in columns -%}
        count({{ column }}) as {{ column }}_members,
        {{ exact_sum(column, 13) }} as {{ column }}_sum,
        {{ exact_sum(column ~ ' * ' ~ column, 13) }} as {{ column }}_squares{{ ',' if not loop.last }}
    {% endfor -%}
{%- endmacro %}

{% macro winsorised_zscore(column, positions, moments) -%}
    {%- set of_session = moments ~ '.' ~ column -%}
    case
        when {{ of_session }}_members >= {{ var('zscore_min_members') }}
            then
                ({{ positions }}.{{ column }} - {{ of_session }}_sum / {{ of_session }}_members)
                / nullif(
                    sqrt({{ variance_of_sums(of_session ~ '_sum', of_session ~ '_squares', of_session ~ '_members') }}), 0
                )
    end
{%- endmacro %}
