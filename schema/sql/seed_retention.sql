    WITH cohort AS (
      SELECT DISTINCT user_id
      FROM telemetry_events
      WHERE event_type = 'session_start'
      AND date(timestamp / 1000, 'unixepoch') = ?1
    ),
    retained AS (
      SELECT DISTINCT e.user_id
      FROM telemetry_events e
      JOIN cohort c ON e.user_id = c.user_id
      WHERE e.event_type = 'session_start'
      AND date(e.timestamp / 1000, 'unixepoch') = date(?1, '+' || ?2 || ' days')
    )
    SELECT
      (SELECT COUNT(*) FROM cohort) as cohort_size,
      (SELECT COUNT(*) FROM retained) as retained_count
