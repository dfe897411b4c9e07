{#
  Fails for half-open ranges that do not begin where the one before them in their key ends; an open
  range (NULL end) has none after it.
    key          columns that identify what the ranges belong to
    range_from   first value inside
    range_to     first value outside, NULL when open
#}
{% test no_gap(model, key, range_from, range_to) %}
    select
        ordered.{{ key | join(', ordered.') }},
        ordered.previous_to,
        ordered.{{ range_from }}
    from (
        select
            {{ key | join(', ') }},
            {{ range_from }},
            lag({{ range_to }}) over in_order as previous_to,
            row_number() over in_order as place
        from {{ model }}
        window in_order as (partition by {{ key | join(', ') }} order by {{ range_from }})
    ) as ordered
    where
        ordered.place > 1
        and (ordered.previous_to is null or ordered.previous_to != ordered.{{ range_from }})
{% endtest %}
