{#
  Fails for values outside [min_value, max_value], for NaN and for the infinities. NULLs pass.
#}
{% test accepted_range(model, column_name, min_value=none, max_value=none) %}
    select {{ column_name }} as rejected_value
    from {{ model }}
    where
        {{ column_name }} is not null
        and not (
            {{ column_name }} >= {{ min_value if min_value is not none else '-1.7976931348623157e308' }}
            and {{ column_name }} <= {{ max_value if max_value is not none else '1.7976931348623157e308' }}
        )
{% endtest %}
