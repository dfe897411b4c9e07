{#
  Sample variance, standard deviation and covariance (ddof 1) over a window frame; NULL for fewer
  than two values (pairs).
    values, first, second   expressions of doubles whose mean is not large against their deviation:
                            Postgres takes the moments about zero
    window                  name of a window with its frame
    magnitude               power of two that the absolute values of no frame add up to; their
                            squares then stay below twice that power
#}
{% macro rolling_variance(values, window, magnitude=14) -%}
    {{ return(adapter.dispatch('rolling_variance', 'asx_warehouse')(values, window, magnitude)) }}
{%- endmacro %}

{% macro default__rolling_variance(values, window, magnitude) -%}
    var_samp({{ values }}) over {{ window }}
{%- endmacro %}

{% macro postgres__rolling_variance(values, window, magnitude) -%}
    {{ postgres__rolling_covariance(values, values, window, magnitude, lowest=0) }}
{%- endmacro %}

{% macro rolling_deviation(values, window, magnitude=14) -%}
    {{ return(adapter.dispatch('rolling_deviation', 'asx_warehouse')(values, window, magnitude)) }}
{%- endmacro %}

{% macro default__rolling_deviation(values, window, magnitude) -%}
    stddev_samp({{ values }}) over {{ window }}
{%- endmacro %}

{% macro postgres__rolling_deviation(values, window, magnitude) -%}
    sqrt({{ postgres__rolling_variance(values, window, magnitude) }})
{%- endmacro %}

{% macro rolling_covariance(first, second, window, magnitude=14) -%}
    {{ return(adapter.dispatch('rolling_covariance', 'asx_warehouse')(first, second, window, magnitude)) }}
{%- endmacro %}

{% macro default__rolling_covariance(first, second, window, magnitude) -%}
    covar_samp({{ first }}, {{ second }}) over {{ window }}
{%- endmacro %}

{% macro postgres__rolling_covariance(first, second, window, magnitude, lowest=none) -%}
    {%- set product = '(' ~ first ~ ') * (' ~ second ~ ')' -%}
    {%- set pairs = 'count(' ~ product ~ ') over ' ~ window -%}
    {%- set left = first if lowest is not none else postgres_paired(first, second) -%}
    {%- set right = second if lowest is not none else postgres_paired(second, first) -%}
    (
        case
            when {{ pairs }} > 1
                then
                    {{ 'greatest(' if lowest is not none }}
                    {{ postgres_moving_sum(product, window, 2 * magnitude) }}
                    - {{ postgres_moving_sum(left, window, magnitude) }}
                    * {{ postgres_moving_sum(right, window, magnitude) }}
                    / ({{ pairs }})
                    {{ ', ' ~ lowest ~ ')' if lowest is not none }}
        end / nullif({{ pairs }} - 1, 0)
    )
{%- endmacro %}

{# A value where its partner is known. #}
{% macro postgres_paired(values, partner) -%}
    case when ({{ partner }}) is not null then {{ values }} end
{%- endmacro %}
