{#
  Recency without a clock: fails when the latest value of the column is before the latest of the
  other relation, that is, when the model was not built on all the data there is, or newer rows
  were lost on the way.
#}
{% test reaches_as_far_as(model, column_name, other, other_column, condition='true') %}
    select
        reached.here,
        reached.there
    from (
        select
            (select max({{ column_name }}) from {{ model }}) as here,
            (select max({{ other_column }}) from {{ other }} where {{ condition }}) as there
    ) as reached
    where reached.here is null and reached.there is not null or reached.here < reached.there
{% endtest %}
