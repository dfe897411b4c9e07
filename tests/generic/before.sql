{#
  Fails for rows in which `earlier` is not before `later`. NULLs pass: an unknown time has its own
  not_null test where it must be known.
#}
{% test before(model, earlier, later) %}
    select
        {{ earlier }} as earlier,
        {{ later }} as later
    from {{ model }}
    where not ({{ earlier }} < {{ later }})
{% endtest %}
