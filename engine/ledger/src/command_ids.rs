//! Exactly once: the commands that were answered lately, and the floors below which none is known.

use daybook_schema::{Command, CommandHash, CommandId, Seq, UnixMicros, limits};
use daybook_simulator::Rejections;

use crate::scoped_ids::{Bounds, Scope, ScopedIds};

/// A command that was answered with events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Applied {
    /// The command's hash.
    pub(crate) hash: CommandHash,
    /// The first event.
    pub(crate) first: Seq,
    /// How many.
    pub(crate) size: u8,
}

/// A command that was answered with rejections.
#[derive(Clone, Debug)]
struct Refused {
    hash: CommandHash,
    rejections: Box<Rejections>,
}

/// What is known of a command's id.
#[derive(Debug)]
pub(crate) enum Lookup<'a> {
    /// Nothing: it may be decided.
    New,
    /// The same command was applied.
    Applied(Applied),
    /// The same command was refused.
    Refused(&'a Rejections),
    /// Another command was answered under this id.
    Conflict {
        /// Where that one begins, if it was applied.
        first: Option<Seq>,
    },
    /// It is too old to be known, or too far ahead.
    Expired {
        /// Ids of this time or before are refused, where there is such a time.
        floor: Option<UnixMicros>,
    },
}

/// Whose a command's id is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IdOwner {
    /// The user that the command is about; none where it is about the ledger.
    scope: Scope,
    /// Whether the operator sent it: what a user is refused takes nothing from what the operator
    /// does about him.
    is_operators: bool,
}

impl From<&Command> for IdOwner {
    fn from(command: &Command) -> Self {
        Self { scope: command.user_id(), is_operators: command.is_operators() }
    }
}

/// The time for an id that is made now: not before `latest`, and above a floor.
pub(crate) fn first_above(floor: Option<UnixMicros>, latest: UnixMicros) -> UnixMicros {
    // Ids tell milliseconds.
    floor.map_or(latest, |floor| floor.plus_micros(1_000).max(latest))
}

/// The commands of a window of time that were answered, bounded in number for each scope and in
/// all.
///
/// INVARIANT: an applied id is remembered, or its time is not above the floor of its scope, or not
/// above the common one.
#[derive(Clone, Debug)]
pub(crate) struct CommandIds {
    applied: ScopedIds<Applied>,
    /// Those that the rules refused: while the process lives they stay refused.
    refused: ScopedIds<Refused>,
    /// The same of the operator's commands, by the user that they are about.
    refused_to_operator: ScopedIds<Refused>,
    /// A floor for all scopes: that of a snapshot of version 1, which had no other.
    common_floor: Option<UnixMicros>,
}

impl Default for CommandIds {
    fn default() -> Self {
        let applied = Bounds {
            per_scope_max: limits::APPLIED_IDS_PER_SCOPE_MAX,
            all_max: limits::APPLIED_IDS_MAX,
        };
        let refused = Bounds {
            per_scope_max: limits::REFUSED_IDS_PER_SCOPE_MAX,
            all_max: limits::REFUSED_IDS_MAX,
        };
        Self {
            applied: ScopedIds::new(applied),
            refused: ScopedIds::new(refused),
            refused_to_operator: ScopedIds::new(refused),
            common_floor: None,
        }
    }
}

impl CommandIds {
    /// Those of a snapshot.
    pub(crate) fn new(
        common_floor: Option<UnixMicros>,
        floors: impl IntoIterator<Item = (Scope, UnixMicros)>,
        applied: impl IntoIterator<Item = (Scope, CommandId, Applied)>,
    ) -> Self {
        let mut ids = Self { common_floor, ..Self::default() };
        floors.into_iter().for_each(|(scope, floor)| ids.applied.raise_floor(scope, floor));
        applied
            .into_iter()
            .for_each(|(scope, id, applied)| ids.applied.remember(scope, id, applied));
        ids
    }

    /// The floor for all scopes, if there is one.
    pub(crate) const fn common_floor(&self) -> Option<UnixMicros> {
        self.common_floor
    }

    /// How many applied ids are remembered.
    pub(crate) const fn applied_count(&self) -> usize {
        self.applied.len()
    }

    /// Each scope's greatest time in any applied id that is no longer remembered.
    pub(crate) fn floors(&self) -> Vec<(Scope, UnixMicros)> {
        self.applied.floors()
    }

    /// Visits the applied ids that are remembered, in the order of scopes and ids.
    pub(crate) fn try_for_each_applied<E>(
        &self,
        visit: impl FnMut(Scope, CommandId, &Applied) -> Result<(), E>,
    ) -> Result<(), E> {
        self.applied.try_for_each(visit)
    }

    /// Looks a client's id up. `latest` is the later of wall clock and ledger time.
    pub(crate) fn look_up(
        &self,
        owner: IdOwner,
        id: CommandId,
        hash: CommandHash,
        latest: UnixMicros,
    ) -> Lookup<'_> {
        let refused = if owner.is_operators { &self.refused_to_operator } else { &self.refused };
        match self.applied.get(owner.scope, id) {
            Some(applied) if applied.hash == hash => return Lookup::Applied(*applied),
            Some(applied) => return Lookup::Conflict { first: Some(applied.first) },
            None => {}
        }
        match refused.get(owner.scope, id) {
            Some(refused) if refused.hash == hash => return Lookup::Refused(&refused.rejections),
            Some(_) => return Lookup::Conflict { first: None },
            None => {}
        }
        let (applied, refused) = (self.applied.floor(owner.scope), refused.floor(owner.scope));
        let floors = [applied, refused, self.common_floor];
        let floor = floors.into_iter().max().flatten();
        // The first time after the floor is let in, wherever the clock was when the floor rose.
        let newest_allowed = latest.plus_micros(limits::COMMAND_ID_AHEAD_MICROS_MAX);
        let newest_allowed = newest_allowed.max(first_above(floor, latest));
        let is_ahead = id.time() > newest_allowed;
        if is_ahead || Some(id.time()) <= floor {
            return Lookup::Expired { floor };
        }
        Lookup::New
    }

    /// Remembers that a command was applied, and forgets what is older than the window or more than
    /// there may be.
    pub(crate) fn remember_applied(
        &mut self,
        scope: Scope,
        id: CommandId,
        applied: Applied,
        now: UnixMicros,
    ) {
        self.applied.remember(scope, id, applied);
        self.applied.forget_before(now.plus_micros(-limits::COMMAND_ID_WINDOW_MICROS));
    }

    /// Remembers that a command of a registered user, or of the operator, was refused.
    pub(crate) fn remember_refused(
        &mut self,
        owner: IdOwner,
        id: CommandId,
        hash: CommandHash,
        rejections: Box<Rejections>,
        now: UnixMicros,
    ) {
        let ids =
            if owner.is_operators { &mut self.refused_to_operator } else { &mut self.refused };
        ids.remember(owner.scope, id, Refused { hash, rejections });
        ids.forget_before(now.plus_micros(-limits::COMMAND_ID_WINDOW_MICROS));
    }

    /// What a start without a snapshot knows: the ids whose time lies within the last minute before
    /// the newest event.
    pub(crate) fn forget_before_start(&mut self, newest: UnixMicros) {
        // Later than a minute before: the first microsecond that is.
        self.applied.forget_before(newest.plus_micros(1 - limits::COMMAND_ID_RECOVERED_MICROS));
    }
}

#[cfg(test)]
mod tests {
    use daybook_schema::UserId;
    use daybook_simulator::Rejection;

    use super::*;

    const HASH: CommandHash = CommandHash::new([1; 16]);

    fn owner(scope: Scope) -> IdOwner {
        IdOwner { scope, is_operators: false }
    }

    fn scope(number: u64) -> Scope {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&number.to_le_bytes());
        Some(UserId::from_bytes(bytes))
    }

    fn id(millis: i64, random: u8) -> CommandId {
        CommandId::from_parts(UnixMicros::new(millis * 1_000), [random; 10])
    }

    fn applied(seq: u64) -> Applied {
        Applied { hash: HASH, first: Seq::new(seq).unwrap(), size: 1 }
    }

    fn refused() -> Box<Rejections> {
        Box::new(Rejection::SeasonComplete.into())
    }

    /// Guards: whatever was forgotten is refused, never taken for new; memory is bounded, whatever
    /// the number of ids, of scopes, and the order of their times.
    #[test]
    fn ten_million_ids_take_bounded_memory_and_none_is_new_twice() {
        let mut ids = CommandIds::default();
        let count: u64 = 10_000_000;
        let now = UnixMicros::new(i64::try_from(count).unwrap());
        let mut forgotten = 0;
        // Times in an order that looks random, each once: the count and the factor have no common
        // divisor.
        for number in 1..=count {
            let micros = i64::try_from(number * 7_654_321 % count).unwrap() + 1;
            let mut random = [0; 10];
            random[..8].copy_from_slice(&number.to_le_bytes());
            let id = CommandId::from_parts(UnixMicros::new(micros), random);
            let scope = scope(number % 1_000);
            match ids.look_up(owner(scope), id, HASH, now) {
                Lookup::New => ids.remember_applied(scope, id, applied(number), now),
                Lookup::Expired { .. } => forgotten += 1,
                other => panic!("{other:?}"),
            }
            if number % 1_000 == 0 {
                let known = ids.look_up(owner(scope), id, HASH, now);
                assert!(
                    matches!(known, Lookup::Applied(_) | Lookup::Expired { .. }),
                    "{number} would be applied twice"
                );
            }
        }
        assert_eq!(ids.applied.len(), limits::APPLIED_IDS_MAX);
        assert!(forgotten > 0);
    }

    /// Guards: a million ids of one scope, applied or refused, from as far ahead as may be, forget
    /// its own alone.
    #[test]
    fn a_flood_of_one_scope_leaves_the_others_as_they_were() {
        let mut ids = CommandIds::default();
        let now = UnixMicros::from_seconds(1_000);
        let (flooder, other) = (scope(1), scope(2));
        ids.remember_applied(other, id(999_000, 1), applied(1), now);
        ids.remember_refused(owner(other), id(999_001, 1), HASH, refused(), now);
        for number in 0..1_000_000u32 {
            let mut random = [0; 10];
            random[6..].copy_from_slice(&number.to_le_bytes());
            let ahead = CommandId::from_parts(UnixMicros::from_seconds(1_055), random);
            ids.remember_applied(flooder, ahead, applied(2), now);
            ids.remember_refused(owner(flooder), ahead, HASH, refused(), now);
        }
        // The other's id is one of these.
        assert_eq!(ids.applied.len(), limits::APPLIED_IDS_PER_SCOPE_MAX + 1);
        assert_eq!(ids.refused.len(), limits::REFUSED_IDS_PER_SCOPE_MAX + 1);
        let honest = |scope| ids.look_up(owner(scope), id(1_000_000, 9), HASH, now);
        assert!(matches!(honest(flooder), Lookup::Expired { floor: Some(_) }));
        assert!(matches!(honest(other), Lookup::New));
        assert!(matches!(honest(None), Lookup::New));
        let known = ids.look_up(owner(other), id(999_000, 1), HASH, now);
        assert!(matches!(known, Lookup::Applied(_)), "{known:?}");
        let known = ids.look_up(owner(other), id(999_001, 1), HASH, now);
        assert!(matches!(known, Lookup::Refused(_)), "{known:?}");
    }

    /// Guards: past the common limit the scope with most ids forgets, not the one that came last.
    #[test]
    fn past_the_common_limit_the_scope_with_most_forgets() {
        let mut ids = CommandIds::default();
        let now = UnixMicros::from_seconds(100);
        ids.remember_applied(scope(0), id(1, 1), applied(1), now);
        let full = limits::APPLIED_IDS_MAX / limits::APPLIED_IDS_PER_SCOPE_MAX;
        for number in 1..=full as u64 {
            for millis in 0..limits::APPLIED_IDS_PER_SCOPE_MAX as i64 {
                ids.remember_applied(scope(number), id(50_000 + millis, 2), applied(2), now);
            }
        }
        assert_eq!(ids.applied.len(), limits::APPLIED_IDS_MAX);
        let known = ids.look_up(owner(scope(0)), id(1, 1), HASH, now);
        assert!(matches!(known, Lookup::Applied(_)), "{known:?}");
    }

    /// Guards: at a scope's limit an id is remembered or refused, never new.
    #[test]
    fn at_the_edge_an_id_is_remembered_or_refused() {
        let mut ids = CommandIds::default();
        let count = limits::APPLIED_IDS_PER_SCOPE_MAX as i64 + 1_000;
        let now = UnixMicros::new(count * 1_000);
        let scope = scope(1);
        for millis in 1..=count {
            assert!(matches!(ids.look_up(owner(scope), id(millis, 0), HASH, now), Lookup::New));
            let applied = applied(millis.unsigned_abs());
            ids.remember_applied(scope, id(millis, 0), applied, now);
        }
        assert_eq!(ids.applied.len(), limits::APPLIED_IDS_PER_SCOPE_MAX);
        let look_up = |millis, random| ids.look_up(owner(scope), id(millis, random), HASH, now);
        assert!(matches!(look_up(1_000, 0), Lookup::Expired { .. }));
        assert!(matches!(look_up(1_000, 9), Lookup::Expired { .. }));
        assert!(matches!(look_up(1_001, 0), Lookup::Applied(_)));
        assert!(matches!(look_up(1_001, 9), Lookup::New));
    }

    /// Guards: a refused id stays refused until it is dropped, and is then expired, never new.
    #[test]
    fn a_refused_id_that_was_dropped_is_expired() {
        let mut ids = CommandIds::default();
        let now = UnixMicros::from_seconds(100);
        let scope = scope(1);
        for millis in 0..=limits::REFUSED_IDS_PER_SCOPE_MAX as i64 {
            ids.remember_refused(owner(scope), id(90_000 + millis, 0), HASH, refused(), now);
        }
        let look_up = |millis, random| ids.look_up(owner(scope), id(millis, random), HASH, now);
        assert!(matches!(look_up(90_000, 0), Lookup::Expired { .. }));
        assert!(matches!(look_up(90_001, 0), Lookup::Refused(_)));
        assert!(matches!(look_up(90_001, 9), Lookup::New));
    }

    /// Guards: the same id with another command is a conflict, and one from the future is refused.
    #[test]
    fn conflicts_and_ids_from_ahead_are_refused() {
        let mut ids = CommandIds::default();
        let now = UnixMicros::from_seconds(100);
        let scope = scope(1);
        ids.remember_applied(scope, id(100_000, 1), applied(1), now);
        ids.remember_refused(owner(scope), id(100_001, 1), HASH, refused(), now);
        let other = CommandHash::new([2; 16]);
        let look_up =
            |millis, random, hash| ids.look_up(owner(scope), id(millis, random), hash, now);
        assert!(matches!(look_up(100_000, 1, other), Lookup::Conflict { .. }));
        assert!(matches!(look_up(100_001, 1, other), Lookup::Conflict { .. }));
        assert!(matches!(look_up(160_000, 2, HASH), Lookup::New));
        assert!(matches!(look_up(160_001, 2, HASH), Lookup::Expired { floor: None }));
    }

    /// Guards: the floor is never read from a clock: with nothing forgotten, old ids are welcome.
    #[test]
    fn an_old_id_is_new_while_nothing_was_forgotten() {
        let mut ids = CommandIds::default();
        let now = UnixMicros::from_seconds(10_000_000);
        let scope = scope(1);
        assert!(matches!(ids.look_up(owner(scope), id(5, 1), HASH, now), Lookup::New));
        ids.remember_applied(scope, id(5, 1), applied(1), now);
        assert!(
            matches!(ids.look_up(owner(scope), id(5, 1), HASH, now), Lookup::Expired { .. }),
            "an id older than the window is forgotten at once, and so refused"
        );
    }

    /// Guards: what is held for a scope and for an id stays within the limits that are promised.
    /// Lists grow by doubling, and a B-tree's nodes are at least half full: an entry takes at most
    /// twice its size.
    #[test]
    fn ids_take_no_more_memory_than_promised() {
        use std::mem::size_of;

        let applied = 2 * size_of::<(CommandId, Applied)>();
        assert!(applied <= limits::APPLIED_ID_MEMORY_BYTES, "{applied}");
        // A bet command is refused for its day, its pace, and each bet for three reasons.
        let reasons = (2 + 3 * limits::POTS).next_power_of_two();
        let refused = 2 * size_of::<(CommandId, Refused)>()
            + size_of::<Rejections>()
            + reasons * size_of::<Rejection>();
        assert!(refused <= limits::REFUSED_ID_MEMORY_BYTES, "{refused}");
        let scope = ScopedIds::<Applied>::scope_bytes() + ScopedIds::<Refused>::scope_bytes();
        assert!(scope <= limits::SCOPE_MEMORY_BYTES, "{scope}");
    }

    /// Guards: the floor of a snapshot of version 1, which had one for all, counts for every scope.
    #[test]
    fn a_common_floor_counts_for_every_scope() {
        let floor = UnixMicros::from_seconds(50);
        let ids = CommandIds::new(Some(floor), [], []);
        let now = UnixMicros::from_seconds(100);
        for scope in [None, scope(1), scope(2)] {
            let at_floor = ids.look_up(owner(scope), id(50_000, 1), HASH, now);
            assert!(matches!(at_floor, Lookup::Expired { .. }), "{at_floor:?}");
            assert!(matches!(ids.look_up(owner(scope), id(50_001, 1), HASH, now), Lookup::New));
        }
    }
}
