-- A rule whose own example it does not match, or another rule takes before it: the rule never works
-- as its author meant it.
with rules as (

    select * from {{ ref('announcement_rules') }}

),

examples as (

    select
        priority,
        pattern,
        example,
        {{ normalise_headline('example') }} as words
    from rules

),

won as (

    select
        examples.priority,
        min(rules.priority) as won_by
    from examples
    inner join rules
        on examples.words like rules.pattern
    group by examples.priority

)

select
    examples.priority,
    examples.pattern,
    examples.example,
    won.won_by
from examples
left join won
    on examples.priority = won.priority
where
    won.won_by is null
    or won.won_by != examples.priority
