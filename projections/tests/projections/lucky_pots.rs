//! Guards: the example of a team's own read model runs, and holds to what the test kit asks.

#[path = "../../examples/lucky_pots.rs"]
#[expect(dead_code, reason = "the example's own main")]
mod example;

use std::collections::BTreeMap;
use std::sync::Arc;

use daybook_projections::test_kit::check;
use daybook_schema::Event;

use crate::fixture::Played;

#[tokio::test]
async fn the_example_is_a_projection_like_ours() {
    let played = Played::new(4, 3, 71);
    let rows = check(Arc::new(example::LuckyPots), played.path()).await.unwrap();
    let mut owners = BTreeMap::new();
    let mut expected: BTreeMap<(String, String), u64> = BTreeMap::new();
    for stored in played.events() {
        let season = stored.header.stream.as_season();
        match &stored.event {
            Event::SeasonStarted(event) => {
                owners.insert(season, event.user_id.to_string());
            }
            Event::BetResolved(event) if event.payout.get() > 0 => {
                let key = (owners[&season].clone(), event.pot_id.to_string());
                *expected.entry(key).or_default() += event.payout.get();
            }
            _ => {}
        }
    }
    let expected: Vec<String> = expected
        .iter()
        .map(|((user, pot), coins)| format!("user_id={user:?} pot_id={pot:?} coins={coins} "))
        .collect();
    assert_eq!(rows["lucky_pots"], expected);
}
