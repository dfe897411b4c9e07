{#
  Functions the rolling macros need and a database may lack; created before a run, in the schema
  `intermediate` (with the var schema_prefix before it).

  On Postgres the largest, smallest and middle value of the latest n elements, for every element of an
  array, in a time that does not grow with n (Postgres would look at the whole frame for every row).
  NULLs are passed over.
    moving_max, moving_min   a queue of the places whose values may still become the extreme
    moving_median            the frame kept sorted; the interpolation is percentile_cont's
#}
{% macro create_array_functions() %}
    {% if execute and flags.WHICH in ['build', 'run', 'seed', 'snapshot', 'test'] %}
        {{ return(adapter.dispatch('create_array_functions', 'asx_warehouse')()) }}
    {% endif %}
{% endmacro %}

{% macro default__create_array_functions() %}
{% endmacro %}

{% macro postgres__create_array_functions() %}
    {% set schema = array_function_schema() %}
    {% call statement('array_functions') %}
        do $do$
        begin
            -- one run at a time replaces them
            perform pg_advisory_xact_lock(hashtext('asx_warehouse array functions'));
            create schema if not exists {{ schema }};
            {%- for name, overtakes in [('moving_max', '<='), ('moving_min', '>=')] %}
            create or replace function {{ schema }}.{{ name }}(series double precision[], n integer)
            returns double precision[]
            language plpgsql immutable strict parallel safe as $$
            declare
                extremes double precision[] := series;
                queue integer[] := array_fill(0, array[cardinality(series)]);
                head integer := 1;
                tail integer := 0;
                value double precision;
            begin
                for i in 1..cardinality(series) loop
                    value := series[i];
                    if value is not null then
                        while tail >= head and series[queue[tail]] {{ overtakes }} value loop
                            tail := tail - 1;
                        end loop;
                        tail := tail + 1;
                        queue[tail] := i;
                    end if;
                    if tail >= head and queue[head] <= i - n then
                        head := head + 1;
                    end if;
                    extremes[i] := case when tail >= head then series[queue[head]] end;
                end loop;
                return extremes;
            end $$;
            {%- endfor %}
            create or replace function {{ schema }}.moving_median(series double precision[], n integer)
            returns double precision[]
            language plpgsql immutable strict parallel safe as $$
            declare
                medians double precision[] := series;
                sorted double precision[] := '{}';
                members integer := 0;
                leaving double precision;
                entering double precision;
                gone integer;
                place integer;
            begin
                for i in 1..cardinality(series) loop
                    leaving := series[i - n];
                    entering := series[i];
                    if leaving is distinct from entering then
                        gone := width_bucket(leaving, sorted);
                        place := width_bucket(entering, sorted);
                        if leaving is null then
                            sorted := sorted[:place] || entering || sorted[place + 1:];
                            members := members + 1;
                        elsif entering is null then
                            sorted := sorted[:gone - 1] || sorted[gone + 1:];
                            members := members - 1;
                        -- what lies between the two places moves up or down by one
                        elsif place > gone then
                            sorted[gone:place - 1] := sorted[gone + 1:place];
                            sorted[place] := entering;
                        elsif place < gone - 1 then
                            sorted[place + 2:gone] := sorted[place + 1:gone - 1];
                            sorted[place + 1] := entering;
                        else
                            sorted[gone] := entering;
                        end if;
                    end if;
                    medians[i] := sorted[(members + 1) / 2]
                        + (sorted[members / 2 + 1] - sorted[(members + 1) / 2]) * 0.5;
                end loop;
                return medians;
            end $$;
        end $do$
    {% endcall %}
{% endmacro %}

{% macro array_function_schema() -%}
    {{ adapter.quote(var('schema_prefix') ~ 'intermediate') }}
{%- endmacro %}
