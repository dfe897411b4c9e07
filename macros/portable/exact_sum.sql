{#
  Sums that do not depend on the order of their summands, so that the same rows give the same bits on
  every engine, with any number of threads and whatever other rows stand around them.

  A value is cut into parts, each a multiple of a grid of which no sum has more than 53 bits: every
  addition is exact. Adding and subtracting 1.5 * 2^52 grid steps rounds to a grid.

    values       expression of doubles, finite or NULL; short, because it is repeated
    magnitude    power of two that the absolute values of no group or frame add up to
    resolution   power of two so small that a value may be rounded to it
    rows         power of two that no group or frame has more rows than
#}

{# Sum of a group, or of a frame where a window is named; NULL where there is no value. #}
{% macro exact_sum(values, magnitude, resolution=-66, window=none, rows=13) -%}
    (
        {%- for part in exact_parts(values, magnitude, resolution, rows) -%}
            sum({{ part }}){{ ' over ' ~ window if window }}{{ ' + ' if not loop.last }}
        {%- endfor -%}
    )
{%- endmacro %}

{# Mean of a group or frame; NULL where there is no value. #}
{% macro exact_mean(values, magnitude, resolution=-66, window=none, rows=13) -%}
    (
        {{ exact_sum(values, magnitude, resolution, window, rows) }}
        / nullif(count({{ values }}){{ ' over ' ~ window if window }}, 0)
    )
{%- endmacro %}

{# The parts of a value, as a list of expressions. #}
{% macro exact_parts(values, magnitude, resolution, rows) -%}
    {%- set parts = [] -%}
    {#- 2^rows rests of half a step each need that many of the next grid's 53 bits -#}
    {%- set step = 53 - rows -%}
    {%- set cut = namespace(rest='(' ~ values ~ ')', grid=magnitude - 53) -%}
    {%- for _ in range(8) -%}
        {%- if not parts or cut.grid + step > resolution -%}
            {%- set part = on_grid(cut.rest, cut.grid) -%}
            {%- do parts.append(part) -%}
            {%- set cut.rest = '(' ~ cut.rest ~ ' - ' ~ part ~ ')' -%}
            {%- set cut.grid = cut.grid - step -%}
        {%- endif -%}
    {%- endfor -%}
    {{ return(parts) }}
{%- endmacro %}

{# A value rounded to a multiple of 2^exponent. #}
{% macro on_grid(values, exponent) -%}
    {%- set shift = "cast('" ~ 1.5 * 2.0 ** (exponent + 52) ~ "' as double precision)" -%}
    (({{ values }} + {{ shift }}) - {{ shift }})
{%- endmacro %}
