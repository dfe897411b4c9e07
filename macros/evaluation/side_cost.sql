{#
  Cost of buying or selling a share, a fraction of its value, by its median daily turnover: the steps
  of the var side_costs_bp, an unknown turnover costing as much as the lowest.
#}
{% macro side_cost(adv) -%}
    case
        {% for least, basis_points in var('side_costs_bp') | dictsort | reverse if least | int > 0 -%}
            when {{ adv }} >= {{ least }} then {{ basis_points }} / cast(10000 as double precision)
        {% endfor -%}
        else {{ var('side_costs_bp')[0] }} / cast(10000 as double precision)
    end
{%- endmacro %}
