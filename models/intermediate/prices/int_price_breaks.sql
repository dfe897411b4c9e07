{#
  Price moves that a capital change might explain, and what the evidence says of each: a corporate
  action; the directory (the price moved and the company's size did not); nothing, a suspect break.

  A verdict has a knowledge time. resolved_from_session_idx is the first session that may use it,
  NULL where there is none; rows before it see a suspect break. The first verdict stands: evidence
  that comes later changes none, or rows already scored would change with it. Of evidence usable
  from the same day a corporate action decides.
#}
{% set evidence_days = var('break_evidence_days') %}

with traded_prices as (

    select * from {{ ref('int_traded_prices') }}

),

corporate_actions as (

    select * from {{ ref('stg_corporate_actions') }}

),

directory as (

    select * from {{ ref('stg_directory') }}

),

symbol_history as (

    select * from {{ ref('int_symbol_history') }}

),

session_days as (

    select * from {{ ref('int_session_days') }}

),

tick_sizes as (

    select * from {{ ref('tick_sizes') }}

),

customary_ratios as (

    select * from {{ ref('customary_ratios') }}

),

large_moves as (

    select
        security_id,
        session_idx,
        least(close, previous_close) as smaller_price,
        abs(close - previous_close) as move
    from traded_prices
    where
        -- 0.05 to 0.09 is a factor of 1.8, and 1.7999999999999998 in doubles
        close / previous_close >= {{ var('break_factor_up') }} * (1 - 1e-9)
        or close / previous_close <= {{ var('break_factor_down') }} * (1 + 1e-9)

),

-- the tick that applies: the step of the table with the highest lower bound not above the price
ticks as (

    select distinct on (large_moves.security_id, large_moves.session_idx)
        large_moves.security_id,
        large_moves.session_idx,
        cast(tick_sizes.tick_size as double precision) as tick_size
    from large_moves
    inner join tick_sizes
        on
            tick_sizes.tick_table = '{{ market_var("tick_table") }}'
            and large_moves.smaller_price >= tick_sizes.price_from
    order by large_moves.security_id, large_moves.session_idx, tick_sizes.price_from desc

),

candidates as (

    select
        large_moves.security_id,
        large_moves.session_idx,
        ticks.tick_size
    from large_moves
    left join ticks
        on
            large_moves.security_id = ticks.security_id
            and large_moves.session_idx = ticks.session_idx
    where
        ticks.tick_size is null
        or large_moves.move > {{ var('break_min_ticks') }} * ticks.tick_size * (1 + 1e-9)

),

splits as (

    select
        coalesce(symbol_history.security_id, corporate_actions.symbol) as security_id,
        corporate_actions.ex_date,
        corporate_actions.ratio,
        corporate_actions.available_at
    from corporate_actions
    left join symbol_history
        on
            corporate_actions.symbol = symbol_history.symbol
            and corporate_actions.ex_date >= symbol_history.valid_from
            and corporate_actions.ex_date < symbol_history.valid_to
    where
        corporate_actions.action = 'split'
        and corporate_actions.ratio > 0
        -- a vendor's split-adjusted quotes hold the splits already
        and '{{ market_var("price_basis") }}' = 'raw'

),

-- an action takes effect with the first trade on or after its ex date
placed_splits as (

    select
        traded_prices.security_id,
        traded_prices.session_idx,
        splits.ratio,
        splits.available_at,
        greatest({{ usable_on('splits.available_at') }}, traded_prices.trade_date) as usable_day
    from splits
    inner join traded_prices
        on
            splits.security_id = traded_prices.security_id
            and splits.ex_date > traded_prices.previous_trade_date
            and splits.ex_date <= traded_prices.trade_date

),

-- of several actions at one trade those count that decide first
first_splits as (

    select
        security_id,
        session_idx,
        ratio,
        available_at,
        usable_day,
        rank() over (partition by security_id, session_idx order by usable_day) as knowledge_rank
    from placed_splits

),

split_events as (

    select
        security_id,
        session_idx,
        case
            when count(*) = 1 then max(ratio)
            else exp({{ exact_sum('ln(ratio)', 10) }})
        end as action_ratio,
        max(available_at) as action_available_at,
        max(usable_day) as action_usable_day
    from first_splits
    where knowledge_rank = 1
    group by security_id, session_idx

),

event_keys as (

    select
        security_id,
        session_idx
    from candidates

    union

    select
        security_id,
        session_idx
    from split_events

),

events as (

    select
        traded_prices.security_id,
        traded_prices.spell,
        traded_prices.session_idx,
        traded_prices.symbol,
        traded_prices.trade_date,
        traded_prices.previous_trade_date,
        traded_prices.previous_close,
        traded_prices.close,
        traded_prices.close / traded_prices.previous_close as price_ratio,
        candidates.session_idx is not null as is_candidate,
        candidates.tick_size,
        split_events.action_ratio,
        split_events.action_available_at,
        split_events.action_usable_day
    from event_keys
    inner join traded_prices
        on
            event_keys.security_id = traded_prices.security_id
            and event_keys.session_idx = traded_prices.session_idx
    left join candidates
        on
            event_keys.security_id = candidates.security_id
            and event_keys.session_idx = candidates.session_idx
    left join split_events
        on
            event_keys.security_id = split_events.security_id
            and event_keys.session_idx = split_events.session_idx

),

sized_snapshots as (

    select
        coalesce(symbol_history.security_id, directory.symbol) as security_id,
        directory.snapshot_date,
        directory.available_at,
        directory.market_cap
    from directory
    left join symbol_history
        on
            directory.symbol = symbol_history.symbol
            and directory.snapshot_date >= symbol_history.valid_from
            and directory.snapshot_date < symbol_history.valid_to
    where directory.market_cap > 0

),

-- without an action a move too small to be a candidate is no event: the directory does not judge it
snapshots_around as (

    select
        events.security_id,
        events.session_idx,
        events.trade_date,
        sized_snapshots.snapshot_date,
        sized_snapshots.available_at,
        sized_snapshots.market_cap,
        sized_snapshots.snapshot_date > events.trade_date as is_after
    from events
    inner join sized_snapshots
        on
            events.security_id = sized_snapshots.security_id
            and sized_snapshots.snapshot_date >= events.trade_date - {{ evidence_days }}
            and sized_snapshots.snapshot_date <= events.trade_date + {{ evidence_days }}
    where events.is_candidate

),

possible_pairs as (

    select
        before_event.security_id,
        before_event.session_idx,
        before_event.snapshot_date as snapshot_date_before,
        after_event.snapshot_date as snapshot_date_after,
        before_event.market_cap as market_cap_before,
        after_event.market_cap as market_cap_after,
        greatest(before_event.available_at, after_event.available_at) as directory_available_at,
        greatest(
            {{ usable_on('before_event.available_at') }},
            {{ usable_on('after_event.available_at') }},
            before_event.trade_date
        ) as directory_usable_day
    from snapshots_around as before_event
    inner join snapshots_around as after_event
        on
            before_event.security_id = after_event.security_id
            and before_event.session_idx = after_event.session_idx
            and not before_event.is_after
            and after_event.is_after

),

-- the first pair that anyone could have had; of those, the nearest to the event
snapshot_pairs as (

    select distinct on (security_id, session_idx)
        security_id,
        session_idx,
        snapshot_date_before,
        snapshot_date_after,
        market_cap_before,
        market_cap_after,
        directory_available_at,
        directory_usable_day
    from possible_pairs
    order by
        security_id asc,
        session_idx asc,
        directory_usable_day asc,
        snapshot_date_before desc,
        snapshot_date_after asc

),

-- a snapshot carries the close before its day, so its share count is its size over that close
closes_before_snapshot as (

    select distinct on (snapshot_pairs.security_id, snapshot_pairs.session_idx)
        snapshot_pairs.security_id,
        snapshot_pairs.session_idx,
        traded_prices.close
    from snapshot_pairs
    inner join traded_prices
        on
            snapshot_pairs.security_id = traded_prices.security_id
            and snapshot_pairs.snapshot_date_before > traded_prices.trade_date
    order by
        snapshot_pairs.security_id,
        snapshot_pairs.session_idx,
        traded_prices.trade_date desc

),

closes_after_event as (

    select distinct on (snapshot_pairs.security_id, snapshot_pairs.session_idx)
        snapshot_pairs.security_id,
        snapshot_pairs.session_idx,
        traded_prices.close
    from snapshot_pairs
    inner join traded_prices
        on
            snapshot_pairs.security_id = traded_prices.security_id
            and snapshot_pairs.snapshot_date_after > traded_prices.trade_date
    order by
        snapshot_pairs.security_id,
        snapshot_pairs.session_idx,
        traded_prices.trade_date desc

),

share_changes as (

    select
        snapshot_pairs.security_id,
        snapshot_pairs.session_idx,
        snapshot_pairs.snapshot_date_before,
        snapshot_pairs.snapshot_date_after,
        snapshot_pairs.market_cap_before,
        snapshot_pairs.market_cap_after,
        snapshot_pairs.directory_available_at,
        snapshot_pairs.directory_usable_day,
        snapshot_pairs.market_cap_after / snapshot_pairs.market_cap_before as market_cap_ratio,
        (snapshot_pairs.market_cap_after / closes_after_event.close)
        / (snapshot_pairs.market_cap_before / closes_before_snapshot.close) as implied_ratio
    from snapshot_pairs
    inner join closes_before_snapshot
        on
            snapshot_pairs.security_id = closes_before_snapshot.security_id
            and snapshot_pairs.session_idx = closes_before_snapshot.session_idx
    inner join closes_after_event
        on
            snapshot_pairs.security_id = closes_after_event.security_id
            and snapshot_pairs.session_idx = closes_after_event.session_idx

),

-- splits and consolidations come in customary sizes: n new for 1 old, or 1 new for n old
snap_targets as (

    select cast(ratio as double precision) as share_ratio
    from customary_ratios

    union all

    select 1 / cast(ratio as double precision) as share_ratio
    from customary_ratios

),

snapped as (

    select distinct on (share_changes.security_id, share_changes.session_idx)
        share_changes.security_id,
        share_changes.session_idx,
        snap_targets.share_ratio
    from share_changes
    inner join snap_targets
        on
            -- the larger side of the ratio is what is compared, so 1:n and n:1 are treated alike
            abs(
                greatest(share_changes.implied_ratio, 1 / share_changes.implied_ratio)
                / greatest(snap_targets.share_ratio, 1 / snap_targets.share_ratio)
                - 1
            ) <= {{ var('ratio_snap_tolerance') }}
            and (share_changes.implied_ratio > 1) = (snap_targets.share_ratio > 1)
    order by
        share_changes.security_id,
        share_changes.session_idx,
        abs(ln(share_changes.implied_ratio / snap_targets.share_ratio)),
        snap_targets.share_ratio

),

weighed as (

    select
        events.security_id,
        events.spell,
        events.session_idx,
        events.symbol,
        events.trade_date,
        events.previous_trade_date,
        events.previous_close,
        events.close,
        events.price_ratio,
        events.is_candidate,
        events.tick_size,
        events.action_ratio,
        events.action_available_at,
        coalesce(
            events.action_usable_day <= share_changes.directory_usable_day,
            events.action_ratio is not null
        ) as is_settled_by_action,
        share_changes.snapshot_date_before,
        share_changes.snapshot_date_after,
        share_changes.market_cap_before,
        share_changes.market_cap_after,
        share_changes.market_cap_ratio,
        share_changes.implied_ratio,
        share_changes.directory_available_at,
        case
            when share_changes.security_id is null then null
            when
                abs(ln(share_changes.market_cap_ratio)) < abs(ln(events.price_ratio)) / 3
                then coalesce(snapped.share_ratio, share_changes.implied_ratio)
        end as directory_ratio
    from events
    left join share_changes
        on
            events.security_id = share_changes.security_id
            and events.session_idx = share_changes.session_idx
    left join snapped
        on
            events.security_id = snapped.security_id
            and events.session_idx = snapped.session_idx

),

judged as (

    select
        *,
        case
            when is_settled_by_action then 'corporate_action'
            when market_cap_ratio is not null then 'directory'
            else 'none'
        end as evidence,
        case
            when is_settled_by_action or directory_ratio is not null then 'capital_change'
            when market_cap_ratio is not null then 'real_move'
            else 'suspect_break'
        end as verdict,
        case when is_settled_by_action then action_ratio else directory_ratio end as share_ratio,
        case when is_settled_by_action then action_available_at else directory_available_at end
            as verdict_available_at
    from weighed

)

select
    judged.security_id,
    judged.spell,
    judged.session_idx,
    judged.symbol,
    judged.trade_date,
    judged.previous_trade_date,
    judged.previous_close,
    judged.close,
    judged.price_ratio,
    judged.tick_size,
    judged.action_ratio,
    judged.snapshot_date_before,
    judged.snapshot_date_after,
    judged.market_cap_before,
    judged.market_cap_after,
    judged.market_cap_ratio,
    judged.implied_ratio,
    judged.evidence,
    judged.verdict,
    judged.share_ratio,
    judged.verdict_available_at,
    -- greatest() skips NULLs: a verdict known only after the last session resolves nothing yet
    case
        when judged.verdict != 'suspect_break' and session_days.session_idx is not null
            then greatest(session_days.session_idx, judged.session_idx)
    end as resolved_from_session_idx,
    judged.is_candidate
from judged
left join session_days
    on
        -- known before the event: usable at the event itself
        greatest({{ usable_on('judged.verdict_available_at') }}, judged.trade_date)
        = session_days.calendar_day
