{#
  Bias-corrected sample skewness (G1, the adjusted Fisher-Pearson coefficient) over a window frame.
    values   expression
    window   name of a window with its frame
  NULL for fewer than three values. A frame without variation gives NULL or NaN: finite() around the
  column makes it NULL everywhere (asking for the deviation here would cost a second window).
  Postgres has no skewness: the frame is collected and its moments are taken about its own mean,
  never as raw power sums.
#}
{% macro rolling_skewness(values, window) -%}
    {{ return(adapter.dispatch('rolling_skewness', 'asx_warehouse')(values, window)) }}
{%- endmacro %}

{% macro default__rolling_skewness(values, window) -%}
    (
        select
            case
                when moments.n > 2 and moments.m2 > 0
                    then
                        sqrt(moments.n * (moments.n - 1)) / (moments.n - 2)
                        * moments.m3 / power(moments.m2, 1.5)
            end
        from (
            select
                cast(count(*) as double precision) as n,
                avg(power(deviations.deviation, 2)) as m2,
                avg(power(deviations.deviation, 3)) as m3
            from (
                select frame.value - avg(frame.value) over () as deviation
                from unnest(array_agg({{ values }}) over {{ window }}) as frame (value)
                where frame.value is not null
            ) as deviations
        ) as moments
    )
{%- endmacro %}

{% macro duckdb__rolling_skewness(values, window) -%}
    skewness({{ values }}) over {{ window }}
{%- endmacro %}
