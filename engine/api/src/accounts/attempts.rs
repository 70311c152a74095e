//! Failed logins, and what they lead to.
//!
//! An attempt is counted before the password is looked at, and taken back if it is right: however
//! many come at once, no more are let through than may fail. Attempts during a lock-out do not
//! count. Unknown addresses count as known ones do.

use daybook_projections::sqlx;

use super::{Accounts, Writing, failed, now_seconds};
use crate::error::{ApiError, Code};
use crate::settings::Lockout;
use crate::tokens::hex;

const SECONDS_PER_DAY: i64 = 86_400;

/// What is counted, and how many may fail within the window.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counter {
    pub(crate) key: [u8; 32],
    /// Whose device it is, where it is one.
    pub(crate) owner: Option<[u8; 32]>,
    pub(crate) failures_max: usize,
}

/// What is stored of a key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Record {
    /// When the failures were that count, in seconds.
    recent: Vec<i64>,
    lockouts: u32,
    locked_until: i64,
    last_failed_at: i64,
}

fn seconds(duration: std::time::Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

impl Record {
    /// Counts a failure; the last that is allowed begins a lock-out.
    fn count(&mut self, now: i64, failures_max: usize, settings: &Lockout) {
        if self.locked_until > 0 {
            // It was served.
            self.recent.clear();
            self.locked_until = 0;
        }
        let window = seconds(settings.window);
        self.recent.retain(|&at| at > now - window && at <= now);
        self.recent.push(now);
        self.last_failed_at = now;
        if self.recent.len() >= failures_max {
            let doubled = seconds(settings.shortest).saturating_mul(1 << self.lockouts.min(16));
            self.locked_until = now + doubled.min(seconds(settings.longest));
            self.lockouts = self.lockouts.saturating_add(1);
        }
    }

    /// Takes the newest failure back, and the lock-out that it began.
    fn take_back(&mut self, failures_max: usize) {
        let was_full = self.recent.len() >= failures_max;
        self.recent.pop();
        if was_full && self.recent.len() < failures_max {
            self.locked_until = 0;
            self.lockouts = self.lockouts.saturating_sub(1);
        }
    }
}

async fn read(writing: &mut Writing, key: &[u8; 32]) -> Result<Option<Record>, ApiError> {
    let row: Option<(String, i64, i64, i64)> = sqlx::query_as(
        "SELECT recent, lockouts, locked_until, last_failed_at FROM failed_logins WHERE key = ?1",
    )
    .bind(key.as_slice())
    .fetch_optional(&mut **writing)
    .await
    .map_err(failed)?;
    Ok(row.map(|(recent, lockouts, locked_until, last_failed_at)| Record {
        recent: serde_json::from_str(&recent).unwrap_or_default(),
        lockouts: u32::try_from(lockouts).unwrap_or(u32::MAX),
        locked_until,
        last_failed_at,
    }))
}

async fn write(writing: &mut Writing, counter: &Counter, record: &Record) -> Result<(), ApiError> {
    sqlx::query(
        "INSERT OR REPLACE INTO failed_logins \
         (key, recent, lockouts, locked_until, last_failed_at, owner) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )
    .bind(counter.key.as_slice())
    .bind(serde_json::to_string(&record.recent).unwrap_or_default())
    .bind(record.lockouts)
    .bind(record.locked_until)
    .bind(record.last_failed_at)
    .bind(counter.owner.map(|owner| owner.to_vec()))
    .execute(&mut **writing)
    .await
    .map(drop)
    .map_err(failed)
}

impl Accounts {
    /// Counts an attempt as failed, before the password is looked at.
    ///
    /// # Errors
    /// [`Code::LockedOut`], with the time to wait.
    pub(crate) async fn begin_attempt(
        &self,
        counters: &[Counter],
        settings: &Lockout,
    ) -> Result<(), ApiError> {
        let mut writing = self.begin().await?;
        let now = now_seconds();
        let mut records = Vec::with_capacity(counters.len());
        for counter in counters {
            records.push(read(&mut writing, &counter.key).await?);
        }
        // What lies further ahead was written by a clock that was set back since.
        let lasts = now..=now.saturating_add(seconds(settings.longest));
        let ends = records.iter().flatten().map(|record| record.locked_until);
        if let Some(until) = ends.filter(|until| lasts.contains(until) && *until > now).max() {
            let wait = (until - now).unsigned_abs();
            return Err(ApiError::new(Code::LockedOut).retry_after(wait));
        }
        for (counter, record) in counters.iter().zip(records) {
            if record.is_none() {
                make_room(&mut writing, counters, settings.keys_max).await?;
            }
            let mut record = record.unwrap_or_default();
            record.count(now, counter.failures_max, settings);
            write(&mut writing, counter, &record).await?;
        }
        writing.commit().await
    }

    /// The attempt was right: the first counter, the account's or the device's, begins anew, and
    /// the others lose this failure.
    pub(crate) async fn forgive(&self, counters: &[Counter]) -> Result<(), ApiError> {
        let mut writing = self.begin().await?;
        for (index, counter) in counters.iter().enumerate() {
            let Some(mut record) = read(&mut writing, &counter.key).await? else { continue };
            record.take_back(counter.failures_max);
            match index == 0 || record.recent.is_empty() && record.lockouts == 0 {
                true => forget(&mut writing, &counter.key).await?,
                false => write(&mut writing, counter, &record).await?,
            }
        }
        writing.commit().await
    }

    /// Takes away what failed logins to an address, or from a user's devices, led to.
    pub(crate) async fn forget_failures(
        &self,
        email: &[u8; 32],
        owner: &[u8; 32],
    ) -> Result<(), ApiError> {
        let mut writing = self.begin().await?;
        forget_all(&mut writing, email, owner).await?;
        writing.commit().await
    }

    /// The failures that are remembered of a key: when those were that count, and until when it is
    /// locked out.
    pub(crate) async fn failures(&self, key: &[u8; 32]) -> Result<(Vec<i64>, i64), ApiError> {
        let row: Option<(String, i64)> =
            sqlx::query_as("SELECT recent, locked_until FROM failed_logins WHERE key = ?1")
                .bind(key.as_slice())
                .fetch_optional(&*self.readers())
                .await
                .map_err(failed)?;
        let (recent, locked_until) = row.unwrap_or_default();
        Ok((serde_json::from_str(&recent).unwrap_or_default(), locked_until))
    }

    /// Counts a registration from a client's address.
    ///
    /// # Errors
    /// [`Code::RegistrationLimit`], with the time to the next UTC day.
    pub(crate) async fn count_registration(
        &self,
        client: &[u8; 32],
        most: u32,
    ) -> Result<(), ApiError> {
        let mut writing = self.begin().await?;
        let now = now_seconds();
        let attempts: i64 = sqlx::query_scalar(
            "INSERT INTO registrations (client, day, attempts) VALUES (?1, ?2, 1) \
             ON CONFLICT DO UPDATE SET attempts = attempts + 1 RETURNING attempts",
        )
        .bind(client.as_slice())
        .bind(now.div_euclid(SECONDS_PER_DAY))
        .fetch_one(&mut *writing)
        .await
        .map_err(failed)?;
        if attempts > i64::from(most) {
            let wait = SECONDS_PER_DAY - now.rem_euclid(SECONDS_PER_DAY);
            return Err(ApiError::new(Code::RegistrationLimit).retry_after(wait.unsigned_abs()));
        }
        writing.commit().await
    }

    /// A registration was not decided: it does not count.
    pub(crate) async fn uncount_registration(&self, client: &[u8; 32]) -> Result<(), ApiError> {
        let mut writing = self.begin().await?;
        sqlx::query(
            "UPDATE registrations SET attempts = attempts - 1 WHERE client = ?1 AND day = ?2 AND attempts > 0",
        )
        .bind(client.as_slice())
        .bind(now_seconds().div_euclid(SECONDS_PER_DAY))
        .execute(&mut *writing)
        .await
        .map_err(failed)?;
        writing.commit().await
    }

    /// Forgets failures after their time, and registrations of earlier days.
    pub(crate) async fn sweep_attempts(&self, settings: &Lockout) -> Result<(), ApiError> {
        let mut writing = self.begin().await?;
        let now = now_seconds();
        sqlx::query("DELETE FROM failed_logins WHERE last_failed_at <= ?1")
            .bind(now - seconds(settings.kept))
            .execute(&mut *writing)
            .await
            .map_err(failed)?;
        sqlx::query("DELETE FROM registrations WHERE day < ?1")
            .bind(now.div_euclid(SECONDS_PER_DAY))
            .execute(&mut *writing)
            .await
            .map_err(failed)?;
        writing.commit().await
    }
}

/// Takes out what is kept of an address and of a user's devices.
pub(crate) async fn forget_all(
    writing: &mut Writing,
    email: &[u8; 32],
    owner: &[u8; 32],
) -> Result<(), ApiError> {
    sqlx::query("DELETE FROM failed_logins WHERE key = ?1 OR owner = ?2")
        .bind(email.as_slice())
        .bind(owner.as_slice())
        .execute(&mut **writing)
        .await
        .map(drop)
        .map_err(failed)
}

async fn forget(writing: &mut Writing, key: &[u8; 32]) -> Result<(), ApiError> {
    let forget = sqlx::query("DELETE FROM failed_logins WHERE key = ?1").bind(key.as_slice());
    forget.execute(&mut **writing).await.map(drop).map_err(failed)
}

/// Of too many keys those go that failed longest ago, those that are locked out last; but for those
/// of this attempt.
async fn make_room(
    writing: &mut Writing,
    counters: &[Counter],
    keys_max: usize,
) -> Result<(), ApiError> {
    let known: i64 = sqlx::query_scalar("SELECT count(*) FROM failed_logins")
        .fetch_one(&mut **writing)
        .await
        .map_err(failed)?;
    let keys_max = i64::try_from(keys_max).unwrap_or(i64::MAX);
    if known < keys_max {
        return Ok(());
    }
    let own: Vec<String> = counters.iter().map(|counter| hex(&counter.key)).collect();
    sqlx::query(
        "DELETE FROM failed_logins WHERE key IN (SELECT key FROM failed_logins \
         WHERE hex(key) NOT IN (SELECT upper(value) FROM json_each(?1)) \
         ORDER BY locked_until > ?3, last_failed_at LIMIT ?2)",
    )
    .bind(serde_json::to_string(&own).unwrap_or_default())
    .bind(known - keys_max + 1)
    .bind(now_seconds())
    .execute(&mut **writing)
    .await
    .map(drop)
    .map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guards: ten failures lock for a minute, each further ten for twice as long, to 15 minutes.
    #[test]
    fn lock_outs_grow_to_the_longest() {
        let settings = Lockout::default();
        let (mut record, mut now) = (Record::default(), 1_000_000);
        for expected in [60, 120, 240, 480, 900, 900] {
            for _ in 0..9 {
                record.count(now, 10, &settings);
                assert_eq!(record.locked_until, 0);
                now += 1;
            }
            record.count(now, 10, &settings);
            assert_eq!(record.locked_until - now, expected);
            now = record.locked_until;
        }
    }

    /// Guards: failures outside the window do not count, and a right attempt takes its own back.
    #[test]
    fn old_failures_and_right_attempts_do_not_count() {
        let settings = Lockout::default();
        let mut record = Record::default();
        for attempt in 0..50 {
            record.count(attempt * 100, 10, &settings);
        }
        assert_eq!((record.locked_until, record.recent.len()), (0, 9));
        record.count(4_901, 10, &settings);
        assert!(record.locked_until > 0);
        record.take_back(10);
        assert_eq!((record.locked_until, record.lockouts, record.recent.len()), (0, 0, 9));
    }
}
