{# Whether a value lies outside [lowest, highest], or is a NaN or an infinity; NULL of a NULL. #}
{% macro outside_range(value, lowest=none, highest=none) -%}
    not (
        {{ value }} >= {{ lowest if lowest is not none else '-1.7976931348623157e308' }}
        and {{ value }} <= {{ highest if highest is not none else '1.7976931348623157e308' }}
    )
{%- endmacro %}
