{#
  At the end of a model whose rows come in another order and are joined by (spell_key, session_idx):
  on Postgres they are stored in the order of that key, because reading them by its index from all
  over the table takes four times as long. DuckDB has no use for an order.
#}
{% macro in_key_order() -%}
    {{ return(adapter.dispatch('in_key_order', 'asx_warehouse')()) }}
{%- endmacro %}

{% macro default__in_key_order() -%}
{%- endmacro %}

{% macro postgres__in_key_order() -%}
    order by spell_key, session_idx
{%- endmacro %}

{#
  At the end of a CTE that several stages read session by session. Postgres 17 and later know the order
  of a CTE's rows, so that none of them sorts the rows again; older ones sort once more.
    columns   what the stages group and join by
#}
{% macro in_session_order(columns) -%}
    {{ return(adapter.dispatch('in_session_order', 'asx_warehouse')(columns)) }}
{%- endmacro %}

{% macro default__in_session_order(columns) -%}
{%- endmacro %}

{% macro postgres__in_session_order(columns) -%}
    order by {{ columns | join(', ') }}
{%- endmacro %}
