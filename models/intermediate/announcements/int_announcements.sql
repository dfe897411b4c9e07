{#
  Every announcement, read by the rules of seeds/announcement_rules.csv: the matching rule with the
  lowest priority gives event, stance and weight. Headlines repeat, so the rules meet each wording
  once; a LIKE pattern that comes from a table costs a tenth of a regular expression that does.

  Sentiment is the vendor's; else, with the var lexicon_sentiment, that of `asxw sentiment`; else
  the stance, with the rule's weight as confidence.
#}
with announcements as (

    select * from {{ ref('stg_announcements') }}

),

rules as (

    select * from {{ ref('announcement_rules') }}

),

headline_sentiment as (

    select * from {{ ref('stg_headline_sentiment') }}

),

session_days as (

    select * from {{ ref('int_session_days') }}

),

symbol_history as (

    select * from {{ ref('int_symbol_history') }}

),

headlines as (

    select distinct headline
    from announcements

),

normalised as (

    select
        headline,
        {{ normalise_headline('headline') }} as words
    from headlines

),

wordings as (

    select distinct words
    from normalised

),

matched as (

    select
        wordings.words,
        min(rules.priority) as priority
    from wordings
    inner join rules
        on wordings.words like rules.pattern
    group by wordings.words

),

judged as (

    select
        normalised.headline,
        rules.priority,
        rules.event,
        rules.stance,
        rules.weight,
        case rules.stance when 'bullish' then 1.0 when 'bearish' then -1.0 when 'neutral' then 0.0 end
            as tone
    from normalised
    inner join matched
        on normalised.words = matched.words
    inner join rules
        on matched.priority = rules.priority

)

select
    announcements.symbol,
    announcements.announced_at,
    announcements.headline,
    announcements.sequence,
    coalesce(symbol_history.security_id, announcements.symbol) as security_id,
    session_days.session_idx,
    announcements.price_sensitive,
    judged.priority as rule_priority,
    judged.event,
    judged.stance,
    case
        when announcements.sentiment is not null then 'vendor'
        when headline_sentiment.sentiment is not null then 'lexicon'
        when judged.stance is not null then 'rule'
    end as sentiment_source,
    cast(
        coalesce(announcements.sentiment, headline_sentiment.sentiment, judged.tone)
        as double precision
    ) as sentiment,
    cast(
        case
            when announcements.sentiment is not null
                then coalesce(announcements.confidence, judged.weight)
            when headline_sentiment.sentiment is not null
                then headline_sentiment.confidence
            else judged.weight
        end as double precision
    ) as confidence
from announcements
left join judged
    on announcements.headline = judged.headline
left join headline_sentiment
    on
        announcements.headline = headline_sentiment.headline
        and {{ 'true' if var('lexicon_sentiment') else 'false' }}
left join session_days
    on {{ usable_on('announcements.announced_at') }} = session_days.calendar_day
left join symbol_history
    on
        announcements.symbol = symbol_history.symbol
        and cast(announcements.announced_at as date) >= symbol_history.valid_from
        and cast(announcements.announced_at as date) < symbol_history.valid_to
