{#
  Keeps the rows known before the var as_of (market local time). With as_of empty every row is
  known. Staging models apply it, so that a build as of a past time sees what was known then.

  dated_on: the day a row speaks of, for tables whose past may be corrected. With the var
  as_of_corrections what became known later of a session decided by then is kept too, which tells
  what a correction changed from what looked ahead.
#}
{% macro known_by(available_at, dated_on=none) -%}
    {%- if not var('as_of') -%}
        true
    {%- else -%}
        {%- set as_of = "cast('" ~ var('as_of') ~ "' as timestamp)" -%}
        {%- if dated_on and var('as_of_corrections') -%}
            ({{ available_at }} < {{ as_of }} or {{ decision_at(dated_on) }} < {{ as_of }})
        {%- else -%}
            {{ available_at }} < {{ as_of }}
        {%- endif -%}
    {%- endif -%}
{%- endmacro %}
