//! How many companions a user adopts on a UTC day: what grows for ever is bounded.

use dashmap::DashMap;
use daybook_schema::UserId;

use crate::accounts::now_seconds;
use crate::error::{ApiError, Code};
use crate::reading::unread;
use crate::service::Service;

const DAY_SECONDS: i64 = 86_400;

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
        {
            of_today.count = of_today.count.saturating_sub(1);
        }
    }
}

impl Adoptions {
    /// Forgets users who adopted none today.
    pub(crate) fn sweep(&self) {
        let today = now_seconds().div_euclid(DAY_SECONDS);
        self.0.retain(|_, of_today| of_today.day == today);
    }
}

impl Service {
    /// Counts an adoption of today.
    ///
    /// # Errors
    /// [`Code::AdoptionLimit`] where there were as many as there may be.
    pub(crate) async fn count_adoption(&self, user_id: UserId) -> Result<Counted<'_>, ApiError> {
        let today = now_seconds().div_euclid(DAY_SECONDS);
        let is_known = self.adoptions.0.get(&user_id).is_some_and(|known| known.day == today);
        // After a start it is the read models that know.
        let known = match is_known {
            true => 0,
            false => {
                let since = today * DAY_SECONDS;
                let counted = self.reads.adoptions_since(user_id, since).await;
                counted.map_err(|error| unread(&error))?
            }
        };
        let of_today = self.adoptions.0.entry(user_id);
        let mut of_today = of_today.or_insert(OfToday { day: today, count: known });
        if of_today.day != today {
            *of_today = OfToday { day: today, count: known };
        }
        if of_today.count >= self.settings.adoptions_per_day_max {
            let left = (today + 1) * DAY_SECONDS - now_seconds();
            let error = ApiError::new(Code::AdoptionLimit);
            return Err(error.retry_after(u64::try_from(left).unwrap_or(1)));
        }
        of_today.count += 1;
        Ok(Counted { adoptions: &self.adoptions, user_id, is_kept: false })
    }
}
