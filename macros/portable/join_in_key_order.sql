{#
  Pre-hook of a model that joins several tables of the grid, all of them by (spell_key, session_idx).

  On Postgres: every such table has an index on that key and lies in its order, or nearly, so that
  merging them reads each once and sorts nothing. Left alone, the planner hashes or sorts each of
  them, in every parallel worker anew, which takes two to three times as long (docs/postgres.md). So
  little memory for hash tables is left that it may hash small tables only.
    small_tables   false if the model joins none by another key, or such that hold large arrays
                   (cross_sectional_rank.sql): then nothing is hashed, and sorts keep the memory they have
#}
{% macro join_in_key_order(small_tables=true) -%}
    {{ return(adapter.dispatch('join_in_key_order', 'asx_warehouse')(small_tables)) }}
{%- endmacro %}

{% macro default__join_in_key_order(small_tables) -%}
{%- endmacro %}

{% macro postgres__join_in_key_order(small_tables) -%}
    set local enable_nestloop = off;
    set local max_parallel_workers_per_gather = 0;
    set local random_page_cost = 1;
    set local effective_cache_size = '8GB';
    {% if small_tables -%}
        set local hash_mem_multiplier = 1;
        set local work_mem = '16MB'
    {%- else -%}
        set local enable_hashjoin = off
    {%- endif %}
{%- endmacro %}
