{#
  Fails for rows that do not follow the row before them in their group by exactly one: a window of
  n rows would not be n sessions.
    group_by   columns of the group
    column     number that must rise by one
#}
{% test contiguous(model, group_by, column) %}
    select
        ordered.{{ column }},
        ordered.previous_value
    from (
        select
            {{ column }},
            lag({{ column }}) over (
                partition by {{ group_by | join(', ') }} order by {{ column }}
            ) as previous_value
        from {{ model }}
    ) as ordered
    where ordered.{{ column }} - ordered.previous_value != 1
{% endtest %}
