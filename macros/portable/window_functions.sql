{#
  Functions the rolling macros need and a database may lack; created before a run, in the schema
  `intermediate` (with the var schema_prefix before it).

  Postgres recomputes a float aggregate over n rows for every row: the native aggregates have no
  inverse. These have one, so a window costs the same whatever its length:
    moving_sum      addition and subtraction; exact where the summands are (rolling_sum.sql)
    moving_median   a sorted array; the interpolation is percentile_cont's
#}
{% macro create_window_functions() %}
    {% if execute and flags.WHICH in ['build', 'run', 'seed', 'snapshot', 'test'] %}
        {{ return(adapter.dispatch('create_window_functions', 'asx_warehouse')()) }}
    {% endif %}
{% endmacro %}

{% macro default__create_window_functions() %}
{% endmacro %}

{% macro postgres__create_window_functions() %}
    {% set schema = window_function_schema() %}
    {% call statement('window_functions') %}
        do $do$
        begin
            -- one run at a time replaces them
            perform pg_advisory_xact_lock(hashtext('asx_warehouse window functions'));
            create schema if not exists {{ schema }};
            create or replace function {{ schema }}.sorted_insert(
                sorted double precision[], value double precision
            ) returns double precision[]
            language plpgsql immutable strict parallel safe as $$
            declare
                place integer := width_bucket(value, sorted);
            begin
                return sorted[:place] || value || sorted[place + 1:];
            end $$;
            create or replace function {{ schema }}.sorted_remove(
                sorted double precision[], value double precision
            ) returns double precision[]
            language plpgsql immutable strict parallel safe as $$
            declare
                place integer := width_bucket(value, sorted);
            begin
                return sorted[:place - 1] || sorted[place + 1:];
            end $$;
            create or replace function {{ schema }}.sorted_median(sorted double precision[])
            returns double precision
            language plpgsql immutable strict parallel safe as $$
            declare
                n integer := cardinality(sorted);
            begin
                return sorted[(n + 1) / 2] + (sorted[n / 2 + 1] - sorted[(n + 1) / 2]) * 0.5;
            end $$;
            create or replace aggregate {{ schema }}.moving_median(double precision) (
                sfunc = {{ schema }}.sorted_insert,
                stype = double precision[],
                initcond = '{}',
                finalfunc = {{ schema }}.sorted_median,
                msfunc = {{ schema }}.sorted_insert,
                minvfunc = {{ schema }}.sorted_remove,
                mstype = double precision[],
                minitcond = '{}',
                mfinalfunc = {{ schema }}.sorted_median
            );
            create or replace aggregate {{ schema }}.moving_sum(double precision) (
                sfunc = float8pl,
                stype = double precision,
                initcond = '0',
                msfunc = float8pl,
                minvfunc = float8mi,
                mstype = double precision,
                minitcond = '0'
            );
        end $do$
    {% endcall %}
{% endmacro %}

{% macro window_function_schema() -%}
    {{ adapter.quote(var('schema_prefix') ~ 'intermediate') }}
{%- endmacro %}
