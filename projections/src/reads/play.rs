//! What a player asks for beside a season: companions, movements of coins, names on boards.

use daybook_schema::{BetId, SeasonId, Seq, SimulinId, UserId};
use serde::Serialize;
use sqlx::{Row, Sqlite, Transaction};

use super::types::{Column, FlagDetails, SimulinDetails};
use super::{ReadError, Reads};

/// A movement of a player's coins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Movement {
    /// The season.
    pub season_id: SeasonId,
    /// Which of the user's.
    pub season_number: i64,
    /// Its place among the season's movements, from 1.
    pub place: usize,
    /// The day.
    pub day_number: i64,
    /// When, in seconds since 1970.
    pub moved_at: i64,
    /// start, stipend, bet, payout, stake_returned, jackpot or end.
    pub kind: String,
    /// How many coins came; below zero, went.
    pub amount: i64,
    /// The balance after it.
    pub balance_after: i64,
    /// The bet that it is of, if it is of one.
    pub bet_id: Option<BetId>,
}

/// Which movements: those after a place, within times.
#[derive(Clone, Copy, Debug)]
pub struct MovementsAsked {
    /// The season's number and the movement's place before the page.
    pub after: (i64, usize),
    /// Not before this, in seconds since 1970.
    pub from: i64,
    /// Before this.
    pub until: i64,
    /// At most so many.
    pub limit: usize,
}

/// Seasons that are looked into for one page.
const SEASONS_PER_PAGE: u32 = 64;

/// A page of movements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Movements {
    /// In the order in which they happened.
    pub movements: Vec<Movement>,
    /// Where the next page goes on, if there may be more.
    pub next: Option<(i64, usize)>,
}

/// The order of movements within a day of a season.
fn step(kind: &str) -> u8 {
    match kind {
        "start" => 0,
        "stipend" => 1,
        "bet" => 2,
        "payout" | "stake_returned" => 3,
        "jackpot" => 4,
        _ => 5,
    }
}

impl Reads {
    /// A user's companions, newest first, a page of them: those before an id.
    ///
    /// # Errors
    /// [`ReadError`] when they cannot be read.
    pub async fn simulins_of(
        &self,
        user_id: UserId,
        before: Option<SimulinId>,
        limit: u32,
    ) -> Result<Vec<SimulinDetails>, ReadError> {
        let simulins = sqlx::query_as(
            "SELECT * FROM simulins WHERE user_id = ?1 AND (?2 IS NULL OR id < ?2) \
             ORDER BY id DESC LIMIT ?3",
        );
        let before = before.map(|before| before.to_string());
        let simulins = simulins.bind(user_id.to_string()).bind(before).bind(limit);
        Ok(simulins.fetch_all(&*self.pool()?).await?)
    }

    /// What was suspicious, newest first, a page of it: what was put on record before an event.
    ///
    /// # Errors
    /// [`ReadError`] when it cannot be read.
    pub async fn flags(
        &self,
        user_id: Option<UserId>,
        before: Option<Seq>,
        limit: u32,
    ) -> Result<Vec<FlagDetails>, ReadError> {
        let before = before.map_or(i64::MAX, |before| before.get().cast_signed());
        let statement = match user_id {
            // By the user's index; with the other each would be looked at.
            Some(_) => {
                "SELECT * FROM flags WHERE seq < ?1 AND user_id = ?3 ORDER BY seq DESC LIMIT ?2"
            }
            None => "SELECT * FROM flags WHERE seq < ?1 ORDER BY seq DESC LIMIT ?2",
        };
        let flags = sqlx::query_as(statement).bind(before).bind(limit);
        let flags = match user_id {
            Some(user_id) => flags.bind(user_id.to_string()),
            None => flags,
        };
        Ok(flags.fetch_all(&*self.pool()?).await?)
    }

    /// What was put on record after an event, oldest first, so many at most.
    ///
    /// # Errors
    /// [`ReadError`] when it cannot be read.
    pub async fn flags_after(&self, seq: i64, limit: u32) -> Result<Vec<FlagDetails>, ReadError> {
        let flags = sqlx::query_as("SELECT * FROM flags WHERE seq > ?1 ORDER BY seq LIMIT ?2");
        Ok(flags.bind(seq).bind(limit).fetch_all(&*self.pool()?).await?)
    }

    /// The movements of a user's coins, oldest first, a page of them.
    ///
    /// # Errors
    /// [`ReadError`] when they cannot be read.
    pub async fn movements_of(
        &self,
        user_id: UserId,
        asked: MovementsAsked,
    ) -> Result<Movements, ReadError> {
        let MovementsAsked { after: (after_season, after_place), from, until, limit } = asked;
        let pool = self.pool()?;
        let mut moment = pool.begin().await?;
        let seasons: Vec<(String, i64)> = sqlx::query_as(
            "SELECT id, season_number FROM seasons WHERE user_id = ?1 AND season_number >= ?2 \
             AND started_at < ?3 AND (completed_at IS NULL OR completed_at >= ?4) \
             ORDER BY season_number LIMIT ?5",
        )
        .bind(user_id.to_string())
        .bind(after_season)
        .bind(until)
        .bind(from)
        .bind(SEASONS_PER_PAGE)
        .fetch_all(&mut *moment)
        .await?;
        let may_be_more = seasons.len() == usize::try_from(SEASONS_PER_PAGE).unwrap_or(usize::MAX);
        let mut page = Movements { movements: Vec::new(), next: None };
        let mut last = None;
        for (id, number) in &seasons {
            let all = of_season(&mut moment, id, *number).await?;
            last = Some((*number, all.len()));
            let passed = if *number == after_season { after_place } else { 0 };
            let wanted = all.into_iter().filter(|movement| {
                movement.place > passed && (from..until).contains(&movement.moved_at)
            });
            for movement in wanted {
                if page.movements.len() == limit {
                    page.next = page.movements.last().map(|last| (last.season_number, last.place));
                    moment.commit().await?;
                    return Ok(page);
                }
                page.movements.push(movement);
            }
        }
        moment.commit().await?;
        page.next = last.filter(|_| may_be_more);
        Ok(page)
    }
}

/// The movements of one season, in order.
async fn of_season(
    moment: &mut Transaction<'_, Sqlite>,
    season: &str,
    season_number: i64,
) -> Result<Vec<Movement>, sqlx::Error> {
    let mut rows = sqlx::query("SELECT * FROM coin_movements WHERE season_id = ?1")
        .bind(season.to_owned())
        .fetch_all(&mut **moment)
        .await?
        .iter()
        .map(|row| {
            Ok(Movement {
                season_id: SeasonId::get(row, "season_id")?,
                season_number,
                place: 0,
                day_number: row.try_get("day_number")?,
                moved_at: row.try_get("moved_at")?,
                kind: row.try_get("kind")?,
                amount: row.try_get("amount")?,
                balance_after: row.try_get("balance_after")?,
                bet_id: Option::<BetId>::get(row, "bet_id")?,
            })
        })
        .collect::<Result<Vec<_>, sqlx::Error>>()?;
    rows.sort_by(|one, other| {
        let key = |it: &Movement| (it.day_number, step(&it.kind), it.bet_id);
        key(one).cmp(&key(other))
    });
    for (place, movement) in (1..).zip(&mut rows) {
        movement.place = place;
    }
    Ok(rows)
}
