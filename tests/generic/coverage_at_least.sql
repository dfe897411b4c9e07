{#
  Fails for rows whose share is below the minimum in the same row: a family that silently lost its
  rows, as a broken join once did. A NULL share (nothing due) passes.
#}
{% test coverage_at_least(model, share, minimum) %}
    select *
    from {{ model }}
    where {{ share }} < {{ minimum }}
{% endtest %}
