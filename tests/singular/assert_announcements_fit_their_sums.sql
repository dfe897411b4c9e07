-- int_announcement_features adds up several counts in one number (macros/portable/packed_counts.sql),
-- which holds less than 2^16 of each in 63 sessions: up to 1,040 a session and security.
select
    announcements.security_id,
    announcements.session_idx,
    count(*) as announcements
from {{ ref('int_announcements') }} as announcements
where announcements.session_idx is not null
group by announcements.security_id, announcements.session_idx
having count(*) > 1040
