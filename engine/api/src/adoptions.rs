//! How many companions a user adopts on a UTC day: what grows for ever is bounded.

use dashmap::DashMap;
use daybook_schema::UserId;

use crate::accounts::now_seconds;
use crate::error::{ApiError, Code};

const DAY_SECONDS: i64 = 86_400;

/// The UTC day, since 1970.
fn today() -> i64 {
    now_seconds().div_euclid(DAY_SECONDS)
}

/// The first second of the UTC day.
pub(crate) fn today_began_at() -> i64 {
    today() * DAY_SECONDS
}

/// The adoptions of today, by user.
#[derive(Debug, Default)]
pub(crate) struct Adoptions(DashMap<UserId, OfToday>);

#[derive(Debug)]
struct OfToday {
    day: i64,
    count: u32,
}

/// An adoption that is counted, unless it comes to nothing.
pub(crate) struct Counted<'a> {
    adoptions: &'a Adoptions,
    user_id: UserId,
    day: i64,
    is_kept: bool,
}

impl Counted<'_> {
    /// It was an adoption.
    pub(crate) fn keep(mut self) {
        self.is_kept = true;
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        if !self.is_kept
            && let Some(mut of_today) = self.adoptions.0.get_mut(&self.user_id)
            && of_today.day == self.day
        {
            of_today.count = of_today.count.saturating_sub(1);
        }
    }
}

impl Adoptions {
    /// Whether it is known how many a user adopted today.
    pub(crate) fn knows(&self, user_id: UserId) -> bool {
        self.0.get(&user_id).is_some_and(|known| known.day == today())
    }

    /// Counts an adoption of today, where `before` were known of when none was counted yet.
    ///
    /// # Errors
    /// [`Code::AdoptionLimit`] where there were as many as there may be.
    pub(crate) fn count(
        &self,
        user_id: UserId,
        before: u32,
        most: u32,
    ) -> Result<Counted<'_>, ApiError> {
        let day = today();
        let of_today = self.0.entry(user_id);
        let mut of_today = of_today.or_insert(OfToday { day, count: before });
        if of_today.day != day {
            *of_today = OfToday { day, count: before };
        }
        if of_today.count >= most {
            let left = (day + 1) * DAY_SECONDS - now_seconds();
            let error = ApiError::new(Code::AdoptionLimit);
            return Err(error.retry_after(u64::try_from(left).unwrap_or(1)));
        }
        of_today.count += 1;
        Ok(Counted { adoptions: self, user_id, day, is_kept: false })
    }

    /// Forgets users who adopted none today.
    pub(crate) fn sweep(&self) {
        let today = today();
        self.0.retain(|_, of_today| of_today.day == today);
    }
}
