{#
  Fails when the model has not exactly as many rows as the other relation: no join may lose a row
  or multiply one.
    other   the relation to compare with
    condition   optional condition on the other relation
#}
{% test same_row_count(model, other, condition='true') %}
    select
        counted.rows_here,
        counted.rows_there
    from (
        select
            (select count(*) from {{ model }}) as rows_here,
            (select count(*) from {{ other }} where {{ condition }}) as rows_there
    ) as counted
    where counted.rows_here != counted.rows_there
{% endtest %}
