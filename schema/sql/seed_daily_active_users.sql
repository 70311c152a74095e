    SELECT COUNT(DISTINCT user_id) as dau
    FROM telemetry_events
    WHERE timestamp >= ?1
    AND timestamp <= ?2
    AND user_id IS NOT NULL
