{#
  Fails for values outside [min_value, max_value], for NaN and for the infinities. NULLs pass.
#}
{% test accepted_range(model, column_name, min_value=none, max_value=none) %}
    select {{ column_name }} as rejected_value
    from {{ model }}
    where {{ outside_range(column_name, min_value, max_value) }}
{% endtest %}
