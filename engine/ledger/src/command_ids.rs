//! Exactly once: the commands that were answered lately, and the floor below which none is known.

use std::collections::BTreeMap;

use daybook_schema::{CommandHash, CommandId, Seq, UnixMicros, UserId, limits};
use daybook_simulator::Rejections;

/// How a command was answered.
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    /// With events.
    Applied {
        /// The first event.
        first: Seq,
        /// How many.
        size: u8,
    },
    /// With rejections.
    Rejected(Box<Rejections>),
}

/// What is known of a command's id.
#[derive(Debug)]
pub(crate) enum Lookup<'a> {
    /// Nothing: it may be decided.
    New,
    /// The same command was answered.
    Repeat(&'a Outcome),
    /// Another command was answered under this id.
    Conflict,
    /// It is too old to be known, or too far ahead.
    Expired {
        /// The floor: ids of this time or before are refused.
        floor: UnixMicros,
    },
}

/// An id and the user in whose scope it is.
pub(crate) type ScopedId = (CommandId, Option<UserId>);

/// An applied command's id, its hash, its first event and how many it has.
pub(crate) type AppliedId = (ScopedId, CommandHash, Seq, u8);

/// The ids of a window of time, bounded in number too, forgotten in the order of the time in them.
#[derive(Debug)]
pub(crate) struct CommandIds {
    remembered: BTreeMap<ScopedId, (CommandHash, Outcome)>,
    /// The greatest time in any applied id that is no longer remembered.
    floor: UnixMicros,
    /// The same, rejected ids included: what lookups use while the process lives.
    live_floor: UnixMicros,
}

impl Default for CommandIds {
    fn default() -> Self {
        let none = UnixMicros::new(i64::MIN);
        Self { remembered: BTreeMap::new(), floor: none, live_floor: none }
    }
}

impl CommandIds {
    /// Those of a snapshot.
    pub(crate) fn new(floor: UnixMicros, applied: impl Iterator<Item = AppliedId>) -> Self {
        let remembered = applied
            .map(|(id, hash, first, size)| (id, (hash, Outcome::Applied { first, size })))
            .collect();
        Self { remembered, floor, live_floor: floor }
    }

    /// The greatest time in any applied id that is no longer remembered.
    pub(crate) const fn floor(&self) -> UnixMicros {
        self.floor
    }

    /// The applied ids that are remembered, in order.
    pub(crate) fn applied(&self) -> impl Iterator<Item = AppliedId> {
        self.remembered.iter().filter_map(|(id, (hash, outcome))| match outcome {
            Outcome::Applied { first, size } => Some((*id, *hash, *first, *size)),
            Outcome::Rejected(_) => None,
        })
    }

    /// Looks a client's id up. `latest` is the later of wall clock and ledger time.
    pub(crate) fn look_up(
        &self,
        id: ScopedId,
        hash: CommandHash,
        latest: UnixMicros,
    ) -> Lookup<'_> {
        match self.remembered.get(&id) {
            Some((known, outcome)) if *known == hash => return Lookup::Repeat(outcome),
            Some(_) => return Lookup::Conflict,
            None => {}
        }
        let time = id.0.time();
        let ahead = time > latest.plus_micros(limits::COMMAND_ID_AHEAD_MICROS_MAX);
        if ahead || time <= self.live_floor {
            return Lookup::Expired { floor: self.live_floor };
        }
        Lookup::New
    }

    /// Remembers an answer, and forgets what is older than the window or more than there may be.
    pub(crate) fn remember(
        &mut self,
        id: ScopedId,
        (hash, outcome): (CommandHash, Outcome),
        now: UnixMicros,
    ) {
        self.remembered.insert(id, (hash, outcome));
        let oldest = now.plus_micros(-limits::COMMAND_ID_WINDOW_MICROS);
        while let Some(entry) = self.remembered.first_entry() {
            let time = entry.key().0.time();
            let surplus = self.remembered.len() > limits::COMMAND_IDS_REMEMBERED_MAX;
            if time >= oldest && !surplus {
                break;
            }
            self.forget_first();
        }
    }

    /// What a start without a snapshot knows: the ids whose time lies within the last minute before
    /// the newest event.
    pub(crate) fn forget_before_start(&mut self, newest: UnixMicros) {
        let oldest = newest.plus_micros(-limits::COMMAND_ID_RECOVERED_MICROS);
        while let Some(((id, _), _)) = self.remembered.first_key_value() {
            if id.time() > oldest {
                break;
            }
            self.forget_first();
        }
    }

    fn forget_first(&mut self) {
        let Some(((id, _), (_, outcome))) = self.remembered.pop_first() else { return };
        let time = id.time();
        self.live_floor = self.live_floor.max(time);
        if matches!(outcome, Outcome::Applied { .. }) {
            self.floor = self.floor.max(time);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(millis: i64, random: u8) -> ScopedId {
        (CommandId::from_parts(UnixMicros::new(millis * 1_000), [random; 10]), None)
    }

    fn applied(seq: u64) -> (CommandHash, Outcome) {
        let first = Seq::new(seq).unwrap();
        (CommandHash::new([1; 16]), Outcome::Applied { first, size: 1 })
    }

    const HASH: CommandHash = CommandHash::new([1; 16]);

    /// Guards: whatever was forgotten is refused, never taken for new; memory is bounded, whatever the number
    /// of ids and the order of their times.
    #[test]
    fn ten_million_ids_take_bounded_memory_and_none_is_new_twice() {
        let mut ids = CommandIds::default();
        let count: u64 = 10_000_000;
        let now = UnixMicros::new(i64::try_from(count).unwrap());
        let mut forgotten = 0;
        // Times in an order that looks random, each once: the count and the factor have no common divisor.
        for number in 1..=count {
            let micros = i64::try_from(number * 7_654_321 % count).unwrap() + 1;
            let mut random = [0; 10];
            random[..8].copy_from_slice(&number.to_le_bytes());
            let id = (CommandId::from_parts(UnixMicros::new(micros), random), None);
            match ids.look_up(id, HASH, now) {
                Lookup::New => ids.remember(id, applied(number), now),
                Lookup::Expired { .. } => forgotten += 1,
                other => panic!("{other:?}"),
            }
            if number % 1_000 == 0 {
                let known = matches!(
                    ids.look_up(id, HASH, now),
                    Lookup::Repeat(_) | Lookup::Expired { .. }
                );
                assert!(known, "{number} would be applied twice");
            }
        }
        assert_eq!(ids.remembered.len(), limits::COMMAND_IDS_REMEMBERED_MAX);
        assert!(forgotten > 0);
    }

    /// Guards: at the window's edge an id is remembered or refused, never new.
    #[test]
    fn at_the_edge_an_id_is_remembered_or_refused() {
        let mut ids = CommandIds::default();
        let count = limits::COMMAND_IDS_REMEMBERED_MAX + 1_000;
        let now = UnixMicros::new(count as i64 * 1_000);
        for millis in 1..=count as i64 {
            assert!(matches!(ids.look_up(id(millis, 0), HASH, now), Lookup::New));
            ids.remember(id(millis, 0), applied(millis.unsigned_abs()), now);
        }
        assert_eq!(ids.remembered.len(), limits::COMMAND_IDS_REMEMBERED_MAX);
        assert!(matches!(ids.look_up(id(1_000, 0), HASH, now), Lookup::Expired { .. }));
        assert!(matches!(ids.look_up(id(1_000, 9), HASH, now), Lookup::Expired { .. }));
        assert!(matches!(ids.look_up(id(1_001, 0), HASH, now), Lookup::Repeat(_)));
        assert!(matches!(ids.look_up(id(1_001, 9), HASH, now), Lookup::New));
    }

    /// Guards: the same id with another command is a conflict, and one from the future is refused.
    #[test]
    fn conflicts_and_ids_from_ahead_are_refused() {
        let mut ids = CommandIds::default();
        let now = UnixMicros::from_seconds(100);
        ids.remember(id(100_000, 1), applied(1), now);
        let other = CommandHash::new([2; 16]);
        assert!(matches!(ids.look_up(id(100_000, 1), other, now), Lookup::Conflict));
        assert!(matches!(ids.look_up(id(160_000, 2), HASH, now), Lookup::New));
        assert!(matches!(ids.look_up(id(160_001, 2), HASH, now), Lookup::Expired { .. }));
    }

    /// Guards: the floor is never read from a clock: with nothing forgotten, old ids are welcome.
    #[test]
    fn an_old_id_is_new_while_nothing_was_forgotten() {
        let mut ids = CommandIds::default();
        let now = UnixMicros::from_seconds(10_000_000);
        assert!(matches!(ids.look_up(id(5, 1), HASH, now), Lookup::New));
        ids.remember(id(5, 1), applied(1), now);
        assert!(
            matches!(ids.look_up(id(5, 1), HASH, now), Lookup::Expired { .. }),
            "an id older than the window is forgotten at once, and so refused"
        );
    }
}
