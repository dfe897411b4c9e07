{#
  Fails where two half-open ranges of the same key overlap. A NULL end is open.
    key          columns that identify what the ranges belong to
    range_from   first value inside
    range_to     first value outside, NULL when open
#}
{% test no_overlap(model, key, range_from, range_to) %}
    select
        earlier.{{ key | join(', earlier.') }},
        earlier.{{ range_from }},
        earlier.{{ range_to }},
        later.{{ range_from }} as overlapping_from
    from {{ model }} as earlier
    inner join {{ model }} as later
        on
            {% for column in key -%}
                earlier.{{ column }} = later.{{ column }} and
            {% endfor -%}
            earlier.{{ range_from }} <= later.{{ range_from }}
            and (earlier.{{ range_to }} > later.{{ range_from }} or earlier.{{ range_to }} is null)
    where
        earlier.{{ range_from }} < later.{{ range_from }}
        or (
            earlier.{{ range_from }} = later.{{ range_from }}
            and coalesce(earlier.{{ range_to }}, earlier.{{ range_from }})
            != coalesce(later.{{ range_to }}, later.{{ range_from }})
        )
{% endtest %}
