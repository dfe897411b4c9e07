{#
  What happened next. The only folder that looks ahead, and nothing public reads it but the marts
  that judge past predictions.

  Statuses in order of precedence: suspect_break (an unexplained break inside the horizon: no
  label), immature (the horizon ends after the last session: no label), delisted (the security's
  last trade lies inside the horizon and none follows: the return to its last trade), suspended (no
  trade in the five sessions up to the horizon's end: no label), ok.
#}
{% set horizon = 21 %}
{% set price = 'close' if var('label_price') == 'close' else 'adj_close' %}
{# a total-return price holds capital changes already #}
{% set factor = 'capital_factor' if var('label_price') == 'close' else '1' %}

with daily_grid as (

    select * from {{ ref('int_daily_grid') }}

),

price_breaks as (

    select * from {{ ref('int_price_breaks') }}

),

sessions as (

    select
        trade_date,
        session_idx
    from {{ ref('int_sessions') }}
    where session_status = 'market'

),

last_session as (

    select max(session_idx) as last_session_idx
    from sessions

),

suspect_breaks as (

    select
        security_id,
        spell,
        session_idx
    from price_breaks
    where verdict = 'suspect_break'

),

suspect_rows as (

    select distinct
        suspect_breaks.security_id,
        sessions.session_idx
    from suspect_breaks
    inner join sessions
        on
            sessions.session_idx < suspect_breaks.session_idx
            and sessions.session_idx >= suspect_breaks.session_idx - {{ horizon + 1 }}

),

suspect_within_horizon as (

    select distinct
        suspect_breaks.security_id,
        sessions.session_idx
    from suspect_breaks
    inner join sessions
        on
            sessions.session_idx < suspect_breaks.session_idx
            and sessions.session_idx >= suspect_breaks.session_idx - {{ horizon }}

),

last_trades as (

    select distinct on (security_id)
        security_id,
        spell,
        session_idx as last_traded_session_idx,
        {{ price }} as last_price,
        {{ factor }} as last_factor
    from daily_grid
    where is_traded
    order by security_id, session_idx desc

),

looked_ahead as (

    select
        security_id,
        symbol,
        spell,
        session_idx,
        trade_date,
        is_traded,
        {{ price }} as price,
        {{ factor }} as factor,
        lead({{ price }}, 1) over in_spell as price_1,
        lead({{ factor }}, 1) over in_spell as factor_1,
        lead({{ price }}, {{ horizon }}) over in_spell as price_{{ horizon }},
        lead({{ factor }}, {{ horizon }}) over in_spell as factor_{{ horizon }},
        lead({{ price }}, {{ horizon + 1 }}) over in_spell as price_{{ horizon + 1 }},
        lead({{ factor }}, {{ horizon + 1 }}) over in_spell as factor_{{ horizon + 1 }},
        lead(traded_sessions, {{ horizon }}) over in_spell
        - lead(traded_sessions, {{ horizon - 5 }}) over in_spell as traded_in_last_5
    from daily_grid
    window in_spell as (partition by spell_key order by session_idx)

),

judged as (

    select
        looked_ahead.*,
        last_trades.last_price,
        last_trades.last_factor,
        last_trades.spell as last_spell,
        last_trades.last_traded_session_idx,
        suspect_rows.security_id is not null as is_suspect_lag1,
        looked_ahead.session_idx + {{ horizon + 1 }} > last_session.last_session_idx
            as is_immature_lag1,
        case
            when suspect_within_horizon.security_id is not null then 'suspect_break'
            when
                looked_ahead.session_idx + {{ horizon }} > last_session.last_session_idx
                then 'immature'
            when
                last_trades.last_traded_session_idx < looked_ahead.session_idx + {{ horizon }}
                then 'delisted'
            when coalesce(looked_ahead.traded_in_last_5, 0) = 0 then 'suspended'
            else 'ok'
        end as label_status
    from looked_ahead
    cross join last_session
    inner join last_trades
        on looked_ahead.security_id = last_trades.security_id
    left join suspect_within_horizon
        on
            looked_ahead.security_id = suspect_within_horizon.security_id
            and looked_ahead.session_idx = suspect_within_horizon.session_idx
    left join suspect_rows
        on
            looked_ahead.security_id = suspect_rows.security_id
            and looked_ahead.session_idx = suspect_rows.session_idx

),

labelled as (

    select
        security_id,
        symbol,
        session_idx,
        trade_date,
        is_traded,
        label_status,
        session_idx + {{ horizon }} as label_end_idx,
        case label_status
            when 'ok' then (price_{{ horizon }} / price) * (factor_{{ horizon }} / factor) - 1
            when 'delisted'
                then
                    case
                        when last_spell = spell
                            then (last_price / price) * (last_factor / factor) - 1
                    end
        end as return_1m_fwd,
        case
            when is_suspect_lag1 or is_immature_lag1 then null
            when
                label_status = 'ok'
                and last_traded_session_idx >= session_idx + {{ horizon + 1 }}
                then
                    (price_{{ horizon + 1 }} / price_1)
                    * (factor_{{ horizon + 1 }} / factor_1) - 1
            when
                label_status in ('ok', 'delisted')
                and last_spell = spell
                and last_traded_session_idx > session_idx
                then (last_price / price_1) * (last_factor / factor_1) - 1
        end as return_1m_fwd_lag1
    from judged

)

select
    labelled.security_id,
    labelled.symbol,
    labelled.trade_date,
    labelled.session_idx,
    labelled.is_traded,
    labelled.label_status,
    cast(labelled.label_end_idx as bigint) as label_end_idx,
    sessions.trade_date as label_end_date,
    labelled.return_1m_fwd,
    cast(
        case
            -- a margin against rounding across capital changes
            when labelled.return_1m_fwd > 1e-12 then 1
            when labelled.return_1m_fwd <= 1e-12 then 0
        end as integer
    ) as return_1m_fwd_sign,
    labelled.return_1m_fwd_lag1
from labelled
left join sessions
    on labelled.label_end_idx = sessions.session_idx
