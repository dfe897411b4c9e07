{#
  One checksum per session of the panel, over every column of its rows but the session's number. The
  snapshot session_checksums keeps each for good, so that a past that changes shows.

  Checksums of two engines, or of two versions of one, are not the same; hence engine_version.
#}
{% set columns = [] %}
{% for column in feature_columns() if column.name != 'session_idx' %}
    {% do columns.append(column.name) %}
{% endfor %}

with features_daily as (

    select * from {{ ref('fct_features_daily') }}

)

select
    trade_date,
    cast(count(*) as bigint) as panel_rows,
    {{ rows_checksum(columns or ['trade_date']) }} as content_checksum,
    '{{ panel_code_checksum() }}' as code_checksum,
    {{ engine_version() }} as engine_version
from features_daily
group by trade_date
