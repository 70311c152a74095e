//! UTC days, and the first day of each period of a leaderboard.

use daybook_schema::{Period, UnixMicros};
use jiff::civil::Date;
use jiff::{SignedDuration, Timestamp};

/// 1970-01-01 was a Thursday, three days after a Monday.
const DAYS_AFTER_MONDAY: i64 = 3;

fn date_of(day: i64) -> Option<Date> {
    let at = Timestamp::UNIX_EPOCH.checked_add(SignedDuration::from_hours(day.checked_mul(24)?));
    Some(at.ok()?.to_zoned(jiff::tz::TimeZone::UTC).date())
}

/// A UTC day, counted from 1970-01-01, as `2026-01-05`.
#[must_use]
pub fn day_text(day: i64) -> String {
    date_of(day).map_or_else(|| format!("day {day}"), |date| date.to_string())
}

/// The first UTC day, counted from 1970-01-01, of the period that a time falls in; 0 for all time.
#[must_use]
pub fn first_day(period: Period, at: UnixMicros) -> i64 {
    let day = at.utc_day();
    match period {
        Period::Weekly => day - (day + DAYS_AFTER_MONDAY).rem_euclid(7),
        Period::Seasonal => {
            let Some(date) = date_of(day) else { return day };
            // The quarter's first month, and the days since its first.
            let month = (date.month() - 1) / 3 * 3 + 1;
            let first = Date::new(date.year(), month, 1).unwrap_or(date);
            let days = first.until(date).map_or(0, |span| span.get_days());
            day - i64::from(days)
        }
        Period::AllTime => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guards: weeks begin on Mondays, quarters on the first of January, April, July and October,
    /// in UTC.
    #[test]
    fn periods_begin_where_the_calendar_says() {
        let at = |text: &str| {
            let time: Timestamp = text.parse().unwrap();
            UnixMicros::new(time.as_microsecond())
        };
        let first = |period, text| day_text(first_day(period, at(text)));
        assert_eq!(first(Period::Weekly, "2026-01-05T00:00:00Z"), "2026-01-05");
        assert_eq!(first(Period::Weekly, "2026-01-04T23:59:59Z"), "2025-12-29");
        assert_eq!(first(Period::Weekly, "1970-01-01T00:00:00Z"), "1969-12-29");
        assert_eq!(first(Period::Seasonal, "2026-01-05T00:00:00Z"), "2026-01-01");
        assert_eq!(first(Period::Seasonal, "2026-06-30T23:59:59Z"), "2026-04-01");
        assert_eq!(first(Period::Seasonal, "2024-12-31T12:00:00Z"), "2024-10-01");
        assert_eq!(first(Period::Seasonal, "2026-09-01T00:00:00Z"), "2026-07-01");
        assert_eq!(first(Period::AllTime, "2026-09-01T00:00:00Z"), "1970-01-01");
    }
}
