{#
  Fails for sessions on which a feature's share is far below what is usual for it: a hole in time
  that an average over all sessions would hide.
    share             column with the share of the session
    due_rows          column with the rows it is taken over
    minimum_rows      sessions with fewer rows are not judged
    share_of_median   how far below the feature's median share a session may lie
#}
{% test no_hole_in_time(model, share, due_rows, minimum_rows, share_of_median) %}
    select
        sessions.feature,
        sessions.trade_date,
        sessions.{{ share }} as session_share,
        medians.median_share
    from {{ model }} as sessions
    inner join (
        select
            feature,
            percentile_cont(0.5) within group (order by {{ share }}) as median_share
        from {{ model }}
        where {{ due_rows }} >= {{ minimum_rows }}
        group by feature
    ) as medians
        on sessions.feature = medians.feature
    where
        sessions.{{ due_rows }} >= {{ minimum_rows }}
        and sessions.{{ share }} < {{ share_of_median }} * medians.median_share
{% endtest %}
