{#
  A setting of the market being built: the var of that name where one is given, else the value
  under vars.markets of the market named by the var `market`.
#}
{% macro market_var(name) -%}
    {%- set markets = var('markets') -%}
    {%- if var('market') not in markets -%}
        {{ exceptions.raise_compiler_error(
            "var market is '" ~ var('market') ~ "'; dbt_project.yml describes: " ~ markets.keys() | join(', ')
        ) }}
    {%- endif -%}
    {{ return(var(name, markets[var('market')][name])) }}
{%- endmacro %}
