-- Prices are on the calendar and the clock of the market that is built: a warehouse that a layout of
-- New York filled is built with the var `market: us`, or the wrong sessions would be missing.
select
    layout,
    timezone
from {{ source('raw', 'loaded_layouts') }}
where timezone != '{{ market_var("timezone") }}'
