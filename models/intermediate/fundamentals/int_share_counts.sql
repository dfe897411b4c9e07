{#
  Share counts as filed, repaired, and put into the share basis of the price file. Figures arrive
  with wrong units (a thousandth, a millionth), with equity in dollars in their place, negative, or
  of another class of shares. Each count is judged against the latest accepted one of its company,
  in the order of filing; docs/fundamentals.md has the rules with worked examples.

  Whether a count is accepted depends on what was filed by then, never on a later filing. A later one
  only decides whether a split was one (is_confirmed): that moves the level the next count is judged
  against, and the share basis of the price file, which the vendor adjusted with hindsight.
#}
{% set is_raw = market_var('price_basis') == 'raw' -%}
{# assets a share that say the unit is right; where quotes are as traded, the price is the scale #}
{% set assets_per_share -%}
    {%- if is_raw -%}
        case when close > 0 then 60 * total_assets / (shares_filed * close) else total_assets / shares_filed end
    {%- else -%}
        total_assets / shares_filed
    {%- endif -%}
{%- endset %}
{% set least_assets -%}
    {%- if is_raw -%}
        case when close > 0 then 0.5 else {{ market_var('min_assets_per_share') }} end
    {%- else -%}
        {{ market_var('min_assets_per_share') }}
    {%- endif -%}
{%- endset %}
with recursive

share_counts as (

    select * from {{ ref('stg_share_counts') }}

),

symbol_history as (

    select * from {{ ref('int_symbol_history') }}

),

customary_ratios as (

    select * from {{ ref('customary_ratios') }}

),

share_count_rulings as (

    select * from {{ ref('share_count_rulings') }}

),

-- a split by more than 50 does not happen on these markets, a wrong unit does
split_ratios as (

    select ratio
    from customary_ratios
    where ratio > 1 and ratio <= 50

    union

    select 1 / ratio as ratio
    from customary_ratios
    where ratio > 1 and ratio <= 50

),

-- one count a filing
filings as (

    select distinct on (coalesce(symbol_history.security_id, share_counts.symbol), share_counts.available_at)
        coalesce(symbol_history.security_id, share_counts.symbol) as security_id,
        share_counts.symbol,
        share_counts.period_end,
        share_counts.available_at,
        share_counts.shares_filed,
        share_counts.revenue_a_year,
        share_counts.total_assets,
        share_counts.equity,
        share_counts.close,
        share_counts.has_divided_quotes,
        share_counts.last_price_date,
        share_counts.shares_filed > 0 as is_positive,
        coalesce(abs(share_counts.shares_filed - share_counts.equity) < 0.01 * share_counts.equity, false)
            as is_equity,
        share_count_rulings.reason as ruling
    from share_counts
    left join share_count_rulings
        on
            share_counts.symbol = share_count_rulings.symbol
            and cast(share_counts.available_at as date) >= share_count_rulings.filed_from
            and cast(share_counts.available_at as date) < share_count_rulings.filed_to
    left join symbol_history
        on
            share_counts.symbol = symbol_history.symbol
            and cast(share_counts.available_at as date) >= symbol_history.valid_from
            and cast(share_counts.available_at as date) < symbol_history.valid_to
    order by
        coalesce(symbol_history.security_id, share_counts.symbol),
        share_counts.available_at,
        share_counts.period_end desc,
        case share_counts.period_type when 'quarter' then 1 when 'half' then 2 when 'ttm' then 3 else 4 end,
        share_counts.symbol

),

-- the restatement of an older period says nothing about the shares of today
newest_periods as (

    select
        *,
        max(period_end) over (
            partition by security_id
            order by available_at
            rows between unbounded preceding and current row
        ) as newest_period_end
    from filings

),

usable as (

    select
        security_id,
        symbol,
        period_end,
        available_at,
        shares_filed,
        revenue_a_year,
        total_assets,
        equity,
        close,
        has_divided_quotes,
        last_price_date,
        -- about a dollar of equity a share is more likely equity in dollars, minority interests included
        coalesce(shares_filed between 0.6 * equity and 1.65 * equity, false) as is_money_like,
        {{ assets_per_share }} as assets_per_share,
        {{ least_assets }} as least_assets,
        total_assets is null or {{ assets_per_share }} between {{ least_assets }} and 5000 as is_in_scale,
        row_number() over in_order as filing_number,
        lead(shares_filed) over in_order as next_shares_filed
    from newest_periods
    where is_positive and not is_equity and ruling is null and period_end = newest_period_end
    window in_order as (partition by security_id order by available_at)

),

-- the unit of a count that stands alone: assets between 2 and 2,000 a share
scaled_counts as (

    select
        *,
        case
            when is_in_scale or total_assets <= 0 then 1
            else power(1000, -floor(log(cast(assets_per_share / 2 as double precision)) / 3))
        end as own_unit
    from usable

),

walk as (

    select
        security_id,
        symbol,
        period_end,
        available_at,
        shares_filed,
        revenue_a_year,
        total_assets,
        equity,
        close,
        has_divided_quotes,
        last_price_date,
        is_money_like,
        is_in_scale,
        filing_number,
        next_shares_filed,
        cast(1 as double precision) as unit,
        cast(null as double precision) as split_ratio,
        is_in_scale and not is_money_like as is_accepted,
        case when is_in_scale and not is_money_like then shares_filed end as level_shares,
        case when is_in_scale and not is_money_like then total_assets end as level_assets,
        case when is_in_scale and not is_money_like then equity end as level_equity,
        case when is_in_scale and not is_money_like then revenue_a_year end as level_revenue,
        has_divided_quotes as level_has_divided_quotes,
        cast(1 as double precision) as basis,
        shares_filed / own_unit as candidate,
        0 as candidate_run
    from scaled_counts
    where filing_number = 1

    union all

    select
        judged.security_id,
        judged.symbol,
        judged.period_end,
        judged.available_at,
        judged.shares_filed,
        judged.revenue_a_year,
        judged.total_assets,
        judged.equity,
        judged.close,
        judged.has_divided_quotes,
        judged.last_price_date,
        judged.is_money_like,
        judged.is_in_scale,
        judged.filing_number,
        judged.next_shares_filed,
        judged.unit,
        case when judged.is_new_level and judged.is_split then judged.ratio end as split_ratio,
        judged.is_accepted,
        case when judged.is_new_level then judged.shares else judged.level_shares end as level_shares,
        case when judged.is_new_level then judged.total_assets else judged.level_assets end as level_assets,
        case when judged.is_new_level then judged.equity else judged.level_equity end as level_equity,
        case when judged.is_new_level then judged.revenue_a_year else judged.level_revenue end
            as level_revenue,
        case when judged.is_new_level then judged.has_divided_quotes else judged.level_has_divided_quotes end
            as level_has_divided_quotes,
        judged.basis
        * case when judged.is_new_level and judged.is_split then judged.ratio else 1 end as basis,
        judged.shares as candidate,
        case when judged.is_new_level then 0 else judged.run end as candidate_run
    from (
        select
            scaled.*,
            split_ratios.ratio,
            split_ratios.ratio is not null and not scaled.has_company_moved and scaled.is_confirmed
                as is_split,
            case
                when scaled.level_shares is null
                    then not scaled.is_money_like and (scaled.is_in_scale or scaled.run >= 1)
                else
                    scaled.log_change between -0.35 and 0.35
                    or split_ratios.ratio is not null
                    or (not scaled.is_money_like and (scaled.has_company_moved or scaled.run >= 2))
            end as is_accepted,
            case
                when scaled.level_shares is null
                    then not scaled.is_money_like and (scaled.is_in_scale or scaled.run >= 1)
                else
                    scaled.log_change between -0.35 and 0.35
                    or (split_ratios.ratio is not null and scaled.is_confirmed)
                    or (not scaled.is_money_like and (scaled.has_company_moved or scaled.run >= 2))
            end as is_new_level
        from (
            select
                united.*,
                ln(united.shares / united.level_shares) as log_change,
                -- as big a company as before, or one that grew along?
                case
                    when united.assets_change is null and united.equity_change is null
                        then coalesce(united.revenue_change, 0)
                    else greatest(united.assets_change, united.equity_change)
                end >= 0.5 * abs(ln(united.shares / united.level_shares)) as has_company_moved,
                united.next_shares_filed is null
                or abs(
                    log(cast(united.next_shares_filed / united.shares as double precision))
                    - 3 * round(log(cast(united.next_shares_filed / united.shares as double precision)) / 3)
                ) < 0.11 as is_confirmed,
                case
                    when abs(ln(united.shares / united.candidate)) < 0.05 then united.candidate_run + 1
                    else 0
                end as run
            from (
                select
                    stepped.*,
                    stepped.shares_filed / stepped.unit as shares,
                    sign(ln(stepped.shares_filed / stepped.unit / stepped.level_shares))
                    * ln(
                        case
                            when stepped.total_assets > 0 and stepped.level_assets > 0
                                then stepped.total_assets / stepped.level_assets
                        end
                    ) as assets_change,
                    case
                        when stepped.equity > 0 and stepped.level_equity > 0
                            then
                                sign(ln(stepped.shares_filed / stepped.unit / stepped.level_shares))
                                * ln(stepped.equity / stepped.level_equity)
                    end as equity_change,
                    case
                        when stepped.revenue_a_year > 0 and stepped.level_revenue > 0
                            then
                                sign(ln(stepped.shares_filed / stepped.unit / stepped.level_shares))
                                * ln(stepped.revenue_a_year / stepped.level_revenue)
                    end as revenue_change
                from (
                    select
                        followed.*,
                        case when followed.is_level_wrong then followed.own_unit else followed.level_unit end
                            as unit,
                        case when not followed.is_level_wrong then followed.known_shares end as level_shares,
                        case when not followed.is_level_wrong then followed.known_assets end as level_assets,
                        case when not followed.is_level_wrong then followed.known_equity end as level_equity,
                        case when not followed.is_level_wrong then followed.known_revenue end as level_revenue
                    from (
                        select
                            measured.*,
                            -- a count that is right as it stands, and wrong in the unit of the level
                            coalesce(
                                measured.known_shares is null
                                or (
                                    measured.level_unit != 1
                                    and measured.total_assets is not null
                                    and measured.is_in_scale
                                    and measured.assets_per_share * measured.level_unit
                                    not between measured.least_assets and 5000
                                ),
                                false
                            ) as is_level_wrong
                        from (
                            select
                                scaled_counts.*,
                                walk.level_shares as known_shares,
                                walk.level_assets as known_assets,
                                walk.level_equity as known_equity,
                                walk.level_revenue as known_revenue,
                                walk.level_has_divided_quotes,
                                walk.basis,
                                walk.candidate,
                                walk.candidate_run,
                                case
                                    when abs(log(scaled_counts.shares_filed / walk.level_shares)) < 2.5
                                        then 1
                                    else
                                        power(
                                            1000,
                                            round(log(scaled_counts.shares_filed / walk.level_shares) / 3)
                                        )
                                end as level_unit
                            from walk
                            inner join scaled_counts
                                on
                                    walk.security_id = scaled_counts.security_id
                                    and walk.filing_number + 1 = scaled_counts.filing_number
                        ) as measured
                    ) as followed
                ) as stepped
            ) as united
        ) as scaled
        left join split_ratios
            on
                scaled.level_shares is not null
                and abs(scaled.log_change) > 0.35
                {%- if market_var('price_basis') == 'split_adjusted' %}
                    -- quotes in whole cents: no later split has been divided out of them
                    and scaled.level_has_divided_quotes
                {%- endif %}
                and abs(scaled.log_change - ln(split_ratios.ratio)) < 0.05
                -- ten times is also what a slipped decimal point makes: believed the second time
                and (abs(abs(ln(split_ratios.ratio)) - ln(10)) > 0.01 or scaled.run >= 1)
    ) as judged

),

-- the share basis of the price file: that of the latest filing by its last session
vintages as (

    select distinct on (security_id)
        security_id,
        basis as price_basis
    from walk
    where cast(available_at as date) <= last_price_date
    order by security_id asc, filing_number desc

),

aligned as (

    select
        walk.security_id,
        walk.available_at,
        walk.is_accepted,
        walk.unit,
        walk.split_ratio,
        walk.shares_filed / walk.unit as shares,
        coalesce(vintages.price_basis, 1) / walk.basis as split_factor,
        walk.shares_filed / walk.unit * coalesce(vintages.price_basis, 1) / walk.basis * walk.close
            as market_value
    from walk
    left join vintages
        on walk.security_id = vintages.security_id

),

judged_counts as (

    select
        newest_periods.security_id,
        newest_periods.symbol,
        newest_periods.period_end,
        newest_periods.available_at,
        newest_periods.shares_filed,
        case
            when not newest_periods.is_positive then 'not positive'
            when newest_periods.is_equity then 'equals equity'
            when newest_periods.ruling is not null then newest_periods.ruling
            when newest_periods.period_end < newest_periods.newest_period_end then 'older period'
            when not aligned.is_accepted then 'unexplained jump'
            -- more than any company is worth on all three counts
            when
                coalesce(newest_periods.total_assets, newest_periods.revenue_a_year, newest_periods.equity)
                is not null
                and aligned.market_value is not null
                and coalesce(
                    aligned.market_value
                    > case when newest_periods.revenue_a_year > 0 then 5 else 15 end
                    * newest_periods.total_assets,
                    true
                )
                and coalesce(aligned.market_value > 100 * newest_periods.revenue_a_year, true)
                and coalesce(aligned.market_value > 30 * newest_periods.equity, true)
                then 'implied market value too high'
            when
                coalesce(newest_periods.total_assets, newest_periods.revenue_a_year, newest_periods.equity)
                is not null
                and aligned.market_value is not null
                and coalesce(aligned.market_value < 0.02 * newest_periods.revenue_a_year, true)
                and coalesce(aligned.market_value < 0.02 * newest_periods.total_assets, true)
                and coalesce(aligned.market_value < 0.02 * newest_periods.equity, true)
                then 'implied market value too low'
        end as rejected_because,
        aligned.unit,
        aligned.split_ratio,
        aligned.shares,
        aligned.split_factor
    from newest_periods
    left join aligned
        on
            newest_periods.security_id = aligned.security_id
            and newest_periods.available_at = aligned.available_at

)

select
    security_id,
    symbol,
    period_end,
    available_at,
    shares_filed,
    rejected_because,
    case when rejected_because is null then unit end as unit,
    case when rejected_because is null then split_ratio end as split_ratio,
    case when rejected_because is null then shares end as shares,
    case when rejected_because is null then split_factor end as split_factor,
    case when rejected_because is null then shares * split_factor end as shares_aligned
from judged_counts
