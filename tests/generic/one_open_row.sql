{#
  Fails for keys that have not exactly one open range (NULL end): the one that counts now.
#}
{% test one_open_row(model, key, range_to) %}
    select
        {{ key | join(', ') }},
        sum(case when {{ range_to }} is null then 1 else 0 end) as open_rows
    from {{ model }}
    group by {{ key | join(', ') }}
    having sum(case when {{ range_to }} is null then 1 else 0 end) != 1
{% endtest %}
