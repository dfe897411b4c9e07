{#
  Pre-hook of a model that joins several tables of the grid, all of them by (spell_key, session_idx).

  On Postgres: every such table has an index on that key and lies in its order, or nearly, so that
  merging them reads each once and sorts nothing. Left alone, the planner hashes or sorts each of
  them, in every parallel worker anew, which takes two to three times as long (docs/postgres.md). So
  little memory for hash tables is left that it may hash small tables only.
#}
{% macro join_in_key_order() -%}
    {{ return(adapter.dispatch('join_in_key_order', 'asx_warehouse')()) }}
{%- endmacro %}

{% macro default__join_in_key_order() -%}
{%- endmacro %}

{% macro postgres__join_in_key_order() -%}
    set local enable_nestloop = off;
    set local max_parallel_workers_per_gather = 0;
    set local random_page_cost = 1;
    set local effective_cache_size = '8GB';
    set local hash_mem_multiplier = 1;
    set local work_mem = '16MB'
{%- endmacro %}
