{#
  NULL for NaN and the infinities. Both engines order NaN above every number, so a closed range
  of the finite doubles excludes all three.
#}
{% macro finite(expression) -%}
    case
        when {{ expression }} between -1.7976931348623157e308 and 1.7976931348623157e308
            then {{ expression }}
    end
{%- endmacro %}
