//! Pages of lists, and the days that bound them.

use crate::error::ApiError;

/// Cuts a list that has one more than a page; tells the page's last if there is more.
pub(super) fn cut<T>(rows: &mut Vec<T>, limit: u32) -> Option<&T> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let is_more = rows.len() > limit;
    rows.truncate(limit);
    rows.last().filter(|_| is_more)
}

/// The first second of a UTC day, such as `2026-11-30`.
pub(super) fn first_second_of(day: &str, field: &str) -> Result<i64, ApiError> {
    let date = day.parse::<jiff::civil::Date>().ok();
    let first = date.and_then(|date| date.to_zoned(jiff::tz::TimeZone::UTC).ok());
    let first = first.map(|first| first.timestamp().as_second());
    first.ok_or_else(|| ApiError::invalid_field(field, "value", "must be a day such as 2026-11-30"))
}
