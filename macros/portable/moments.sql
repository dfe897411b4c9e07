{#
  Statistics of n values from their sums about zero; right for values whose mean is not large against
  their deviation.
    total, squares, cubes   columns: sums of the values and their powers
    n                       number of values, more than two: a number or a column
#}

{# Sample variance (ddof 1); 0 where the values differ by rounding alone. #}
{% macro variance_of_sums(total, squares, n) -%}
    case
        when {{ squares }} - {{ total }} * {{ total }} / {{ n }} > 1e-14 * {{ squares }}
            then ({{ squares }} - {{ total }} * {{ total }} / {{ n }}) / ({{ n }} - 1)
        when {{ squares }} is not null then 0
    end
{%- endmacro %}

{# Bias-corrected sample skewness (G1, adjusted Fisher-Pearson); NULL without variation. #}
{% macro skewness_of_sums(total, squares, cubes, n) -%}
    {%- set mean = '(' ~ total ~ ' / ' ~ n ~ ')' -%}
    {%- set second = '(' ~ squares ~ ' / ' ~ n ~ ' - ' ~ mean ~ ' * ' ~ mean ~ ')' -%}
    case
        when {{ second }} > 1e-14 * {{ squares }} / {{ n }}
            then
                sqrt(cast({{ n }} as double precision) * ({{ n }} - 1)) / ({{ n }} - 2)
                * (
                    {{ cubes }} / {{ n }}
                    - 3 * {{ mean }} * {{ squares }} / {{ n }}
                    + 2 * {{ mean }} * {{ mean }} * {{ mean }}
                )
                / ({{ second }} * sqrt({{ second }}))
    end
{%- endmacro %}
