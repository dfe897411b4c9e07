{#
  z-score within a session of a value winsorised at its 1 % and 99 % quantiles, in three steps that
  a model writes as three CTEs:
    winsor_limits(columns)          aggregates of a session: <column>_low, <column>_high
    winsorised(column, v, l)        the value inside the limits (v, l: aliases of values and limits)
    winsorised_zscore(column, by)   the z-score over the partition, NULL for fewer than
                                    zscore_min_members values or no deviation
#}
{% macro winsor_limits(columns) -%}
    {% for column in columns -%}
        percentile_cont(0.01) within group (order by {{ column }}) as {{ column }}_low,
        percentile_cont(0.99) within group (order by {{ column }}) as {{ column }}_high{{ ',' if not loop.last }}
    {% endfor -%}
{%- endmacro %}

{% macro winsorised(column, values, limits) -%}
    case
        when {{ values }}.{{ column }} is not null
            then least(greatest({{ values }}.{{ column }}, {{ limits }}.{{ column }}_low), {{ limits }}.{{ column }}_high)
    end
{%- endmacro %}

{% macro winsorised_zscore(column, window) -%}
    case
        when count({{ column }}) over {{ window }} >= {{ var('zscore_min_members') }}
            then
                ({{ column }} - avg({{ column }}) over {{ window }})
                / nullif(stddev_samp({{ column }}) over {{ window }}, 0)
    end
{%- endmacro %}
