{#
  Mean of the expressions that are not NULL; NULL when fewer than `minimum` are.
#}
{% macro mean_of_present(expressions, minimum) -%}
    {%- set present -%}
        ({% for e in expressions %}case when {{ e }} is not null then 1 else 0 end{{ ' + ' if not loop.last }}{% endfor %})
    {%- endset -%}
    case
        when {{ present }} >= {{ minimum }}
            then
                ({% for e in expressions %}coalesce({{ e }}, 0){{ ' + ' if not loop.last }}{% endfor %})
                / cast({{ present }} as double precision)
    end
{%- endmacro %}
