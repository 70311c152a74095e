//! Applying an event: the one function that live play, recovery, replay and audit go through.

use daybook_schema::events::{
    BetPlaced, BetResolved, CommitmentPublished, DayResolved, KeyRotated, SeasonStarted,
    SessionEnded, SimulinAdopted, SimulinLevelReached, SimulinPathChosen, SimulinXpGained,
    WeekEvaluated,
};
use daybook_schema::{
    BondLevel, BondXp, Coins, DayNumber, Event, EventHash, EventHeader, Millicoins, PerPot,
    SeasonId, UnixMicros, UserId, Weather,
};

use crate::hands::WeekTriggers;
use crate::state::{
    EndedSeason, PlacedBet, PublishedCommitment, Season, SeasonEnd, SeasonKeyStatus, Simulin,
    State, User,
};
use crate::transfers::Account;

/// Applies an event as the ledger recorded it. It cannot fail: an event that names what is not
/// there changes nothing, and the audit, which decides every command again, tells that it should
/// not be.
pub fn evolve(state: &mut State, header: &EventHeader, hash: EventHash, event: &Event) {
    let season_id = header.stream.as_season();
    let user_id = header.stream.as_user();
    match event {
        Event::KeyRotated(event) => rotate_key(state, event),
        Event::LedgerRestored(event) => state.epochs.push(event.epoch),
        Event::UserRegistered(_) => {
            state.users.insert(user_id, User::default());
        }
        Event::SeasonStarted(event) => start_season(state, header, event),
        Event::SeasonCompleted(event) => {
            end_season(state, season_id, SeasonEnd::Completed, event.coins);
        }
        Event::SeasonAbandoned(event) => {
            return_escrow(state, season_id, event.escrow_returned);
            end_season(state, season_id, SeasonEnd::Abandoned, event.coins);
        }
        Event::SeasonExpired(event) => {
            return_escrow(state, season_id, event.escrow_returned);
            end_season(state, season_id, SeasonEnd::Expired, event.coins);
        }
        Event::CommitmentPublished(event) => {
            let published = publish(state, header, hash, event);
            with_user(state, user_id, |user| user.next_commitment = Some(published));
        }
        event if event.kind().stream() == daybook_schema::StreamKind::User => {
            with_user(state, user_id, |user| evolve_user(user, event));
        }
        event => evolve_season(state, season_id, header.recorded_at, event),
    }
}

fn with_user(state: &mut State, user_id: UserId, change: impl FnOnce(&mut User)) {
    if let Some(user) = state.users.get_mut(&user_id) {
        change(user);
    }
}

fn rotate_key(state: &mut State, event: &KeyRotated) {
    if event.compromised {
        state.season_keys.iter_mut().for_each(|status| status.compromised = true);
    }
    state.season_keys.push(SeasonKeyStatus { key_id: event.key_id, compromised: false });
}

fn publish(
    state: &State,
    header: &EventHeader,
    hash: EventHash,
    event: &CommitmentPublished,
) -> PublishedCommitment {
    PublishedCommitment {
        season_number: event.season_number,
        key_id: event.key_id,
        epoch_number: state.identity().epoch.number,
        commitment: event.commitment,
        seq: header.seq,
        hash,
    }
}

fn evolve_user(user: &mut User, event: &Event) {
    match event {
        Event::UserErased(_) => {
            user.erased = true;
            user.next_commitment = None;
        }
        Event::SessionStarted(event) => {
            user.session_count = event.session_number.get();
            user.open_sessions.push(event.session_number);
        }
        Event::SessionEnded(SessionEnded { session_number, .. }) => {
            user.open_sessions.retain(|open| open != session_number);
        }
        Event::SimulinAdopted(SimulinAdopted { simulin_id, adoption_number, species, .. }) => {
            user.adoption_count = adoption_number.get();
            user.simulins.push(Simulin {
                simulin_id: *simulin_id,
                species: *species,
                path: None,
                bond_xp: BondXp::MIN,
                bond_level: BondLevel::MIN,
            });
        }
        Event::SimulinPathChosen(SimulinPathChosen { simulin_id, path }) => {
            user.simulin_mut(*simulin_id).into_iter().for_each(|s| s.path = Some(*path));
        }
        Event::SimulinRetired(event) => {
            user.simulins.retain(|simulin| simulin.simulin_id != event.simulin_id);
        }
        Event::SimulinXpGained(SimulinXpGained { simulin_id, bond_xp, .. }) => {
            user.simulin_mut(*simulin_id).into_iter().for_each(|s| s.bond_xp = *bond_xp);
        }
        Event::SimulinLevelReached(SimulinLevelReached { simulin_id, bond_level }) => {
            user.simulin_mut(*simulin_id).into_iter().for_each(|s| s.bond_level = *bond_level);
        }
        _ => {}
    }
}

fn start_season(state: &mut State, header: &EventHeader, event: &SeasonStarted) {
    let season_id = header.stream.as_season();
    let day = header.recorded_at.utc_day();
    let mut season = Season {
        user_id: event.user_id,
        season_number: event.season_number,
        ruleset: event.ruleset,
        key_id: event.key_id,
        epoch_number: state.identity().epoch.number,
        client_digest: event.client_digest,
        revealed_key: event.day_key_zero,
        companion: event.companion,
        day_number: DayNumber::MIN,
        weather: Weather::Cloudy,
        balance: 0,
        escrow: 0,
        bets: PerPot::default(),
        last_bet_at: None,
        last_progress_at: header.recorded_at,
        jackpot_contribution: Millicoins::MIN,
        jackpot_won: Coins::ZERO,
        week_day_scores: 0,
        week_scores: 0,
        week_triggers: WeekTriggers::default(),
        suspicions: std::collections::BTreeMap::new(),
    };
    state.accounts.transfer(&mut season, Account::Mint, Account::Balance, event.coins);
    state.seasons.insert(season_id, season);
    with_user(state, event.user_id, |user| {
        user.season_count = event.season_number.get();
        let (started_on, count) = user.started_on_day;
        let count = if started_on == day { count.saturating_add(1) } else { 1 };
        user.started_on_day = (day, count);
        user.season_in_play = Some(season_id);
        user.newest_ended = None;
        user.next_commitment = None;
    });
}

fn return_escrow(state: &mut State, season_id: SeasonId, amount: Coins) {
    if let Some(season) = state.seasons.get_mut(&season_id) {
        state.accounts.transfer(season, Account::Escrow, Account::Balance, amount);
    }
}

fn end_season(state: &mut State, season_id: SeasonId, end: SeasonEnd, coins: Coins) {
    let Some(mut season) = state.seasons.remove(&season_id) else { return };
    state.accounts.transfer(&mut season, Account::Balance, Account::Mint, coins);
    with_user(state, season.user_id, |user| {
        user.season_in_play = None;
        user.newest_ended = Some(EndedSeason { season_id, end });
    });
}

fn evolve_season(state: &mut State, season_id: SeasonId, at: UnixMicros, event: &Event) {
    let Some(season) = state.seasons.get_mut(&season_id) else { return };
    let accounts = &mut state.accounts;
    match event {
        Event::SuspicionFlagged(event) => {
            *season.suspicions.entry(event.day_number).or_default() |= 1 << event.code.number();
        }
        Event::DayOpened(event) => {
            season.day_number = event.day_number;
            season.weather = event.weather;
            season.bets = PerPot::default();
        }
        Event::StipendGranted(event) => {
            accounts.transfer(season, Account::Mint, Account::Balance, event.amount);
        }
        Event::BetPlaced(BetPlaced { pot_id, bet_type, amount, .. }) => {
            accounts.transfer(season, Account::Balance, Account::Escrow, *amount);
            let bet = PlacedBet { bet_type: *bet_type, amount: *amount };
            *season.bets.get_mut(*pot_id) = Some(bet);
            season.last_bet_at = Some(at);
        }
        Event::BetResolved(BetResolved { amount, payout, jackpot_share, .. }) => {
            accounts.transfer(season, Account::Escrow, Account::House, *amount);
            accounts.transfer(season, Account::House, Account::Balance, *payout);
            accounts.save_for_jackpot(*jackpot_share);
            let total = season.jackpot_contribution.get().saturating_add(jackpot_share.get());
            season.jackpot_contribution = Millicoins::clamped(total);
        }
        Event::DayResolved(DayResolved { day_key, score, .. }) => {
            season.revealed_key = *day_key;
            season.week_day_scores = season.week_day_scores.saturating_add(score.get());
            season.last_progress_at = at;
        }
        Event::TriggerEarned(event) => {
            season.week_triggers.insert(event.day_number.index_in_week(), event.trigger_type);
        }
        Event::WeekEvaluated(WeekEvaluated { score, .. }) => {
            season.week_scores = season.week_scores.saturating_add(score.get());
            season.week_day_scores = 0;
            season.week_triggers = WeekTriggers::default();
        }
        Event::JackpotPaid(event) => {
            accounts.pay_jackpot(season, event.amount);
            let won = season.jackpot_won.get().saturating_add(event.amount.get());
            season.jackpot_won = Coins::clamped(won);
        }
        _ => {}
    }
}
