//! Guards: the engine's own work is done once, whoever does it.

use daybook_ledger::{Keeper, Submission, SubmitError};
use daybook_schema::commands::{BetOrder, BetOrders};
use daybook_schema::{BetType, Coins, Command, Event, Pot};

use crate::fixture::Fixture;

#[test]
fn idle_seasons_expire_once() {
    let mut fixture = Fixture::new();
    let (first, second) = (fixture.register(1), fixture.register(2));
    let idle = fixture.start(first);
    let day = 86_400_000_000;
    fixture.now = fixture.now.plus_micros(20 * day);
    let played = fixture.start(second);
    let now = fixture.now.plus_micros(11 * day);
    let ledger = fixture.ledger().clone();
    let mut keeper = Keeper::with(&ledger, |command| Submission::new(command).at(now));
    let expired = keeper.expire_idle(now).unwrap();
    assert_eq!(expired.len(), 1);
    let (user_id, accepted) = &expired[0];
    assert_eq!((*user_id, accepted.events[0].stream), (first, idle.into()));
    assert!(matches!(accepted.events[0].event, Event::SeasonExpired(_)));
    assert!(keeper.expire_idle(now).unwrap().is_empty());
    let in_play = ledger
        .query(|state| state.seasons.ordered().into_iter().map(|(id, _)| id).collect::<Vec<_>>());
    assert_eq!(in_play.unwrap().wait().unwrap(), [played]);
}

#[test]
fn a_rapid_bet_is_flagged_once_a_day_and_other_refusals_are_not() {
    let mut fixture = Fixture::new();
    let user_id = fixture.register(1);
    let season_id = fixture.start(user_id);
    let bet = |pot_id| {
        let order = BetOrder { pot_id, bet_type: BetType::Call, amount: Coins::clamped(10) };
        let bets = BetOrders::single(order);
        Submission::new(Command::PlaceBets { user_id, season_id, bets }).at(fixture.now)
    };
    let ledger = fixture.ledger();
    let place = |pot_id| ledger.submit(bet(pot_id)).unwrap().wait();
    place(Pot::Sun).unwrap();
    let Err(SubmitError::Rejected { rejections: rapid, .. }) = place(Pot::Water) else {
        panic!("too soon")
    };
    let at = fixture.now;
    let mut keeper = Keeper::with(ledger, |command| Submission::new(command).at(at));
    let flagged = keeper.flag(user_id, season_id, &rapid).unwrap().unwrap();
    assert!(matches!(flagged.events[0].event, Event::SuspicionFlagged(_)));
    assert_eq!(keeper.flag(user_id, season_id, &rapid).unwrap(), None);
    let retire = Command::RetireSimulin {
        user_id,
        simulin_id: daybook_schema::SimulinId::from_bytes([1; 16]),
    };
    let unknown = ledger.submit(Submission::new(retire).at(at)).unwrap().wait();
    let Err(SubmitError::Rejected { rejections: unknown, .. }) = unknown else {
        panic!("no such simulin")
    };
    assert_eq!(keeper.flag(user_id, season_id, &unknown).unwrap(), None);
}
