//! Ids of commands, each in a scope of its own: a user's, or the operator's. No scope can push out
//! what another has.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, VecDeque};

use daybook_schema::{CommandId, UnixMicros, UserId};
use foldhash::fast::RandomState;

/// Whose ids: a user's, or the operator's.
pub(crate) type Scope = Option<UserId>;

/// How many ids are remembered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// In one scope.
    pub(crate) per_scope_max: usize,
    /// In all of them.
    pub(crate) all_max: usize,
}

/// A scope's place in the list of scopes.
type Slot = u32;

/// What is remembered of ids, bounded by scope and in all. Past the bound of a scope it forgets its
/// oldest id; past the common bound the scope with most ids does. What a scope forgets raises its
/// own floor alone.
#[derive(Clone, Debug)]
pub(crate) struct ScopedIds<V> {
    bounds: Bounds,
    slots: HashMap<Scope, Slot, RandomState>,
    scopes: Vec<OfScope<V>>,
    /// The earliest first: of each scope that has ids a time that is no later than its oldest id's.
    /// It is not kept up to date where a scope forgets, which would cost more than all the rest.
    earliest: BinaryHeap<Reverse<(UnixMicros, Slot)>>,
    count: usize,
    /// Kept from the time on when there are as many ids as there may be.
    by_count: Option<ByCount>,
}

/// So many outdated entries are always let be. In tests it is few, so that what comes then is seen.
const ENTRIES_MIN: usize = if cfg!(test) { 8 } else { 1_024 };

/// How many times may be in `earliest`. Where there are more the outdated ones are removed.
const fn times_max(scopes: usize) -> usize {
    ENTRIES_MIN + scopes + scopes / 2
}

/// How many entries may be in a [`ByCount`]. Where there are more the outdated ones are removed.
const fn counts_max(scopes: usize) -> usize {
    ENTRIES_MIN + 2 * scopes
}

/// The scopes by the number of their ids.
#[derive(Clone, Debug, Default)]
struct ByCount {
    /// Scopes that had so many at some time; those that have so many now are among them.
    had: Vec<Vec<Slot>>,
    /// Entries in all of these.
    entries: usize,
    /// The most that a scope has, or more.
    most: usize,
}

/// The ids of one scope.
#[derive(Clone, Debug)]
struct OfScope<V> {
    scope: Scope,
    /// Those that came in the order of their times, as nearly all do.
    in_order: VecDeque<(CommandId, V)>,
    /// Those that came late.
    late: BTreeMap<CommandId, V>,
    /// The oldest of both, and the newest of the first: looked at most often, and so kept here.
    oldest: Option<CommandId>,
    newest: Option<CommandId>,
    /// The time in `earliest` that counts for it: others of its are outdated. The end of time where
    /// none does.
    entered: UnixMicros,
    /// The greatest time in any id that was forgotten.
    floor: Option<UnixMicros>,
}

impl<V> OfScope<V> {
    const fn new(scope: Scope) -> Self {
        Self {
            scope,
            in_order: VecDeque::new(),
            late: BTreeMap::new(),
            oldest: None,
            newest: None,
            entered: UnixMicros::new(i64::MAX),
            floor: None,
        }
    }

    fn count(&self) -> usize {
        self.in_order.len() + self.late.len()
    }

    /// The time of its oldest id, if it has one, noted as the one that counts in `earliest`.
    fn time_to_enter(&mut self) -> Option<UnixMicros> {
        let time = self.oldest.map(|oldest| oldest.time());
        self.entered = time.unwrap_or(UnixMicros::new(i64::MAX));
        time
    }

    fn get(&self, id: CommandId) -> Option<&V> {
        if Some(id) > self.newest && self.late.is_empty() {
            return None;
        }
        match self.in_order.binary_search_by_key(&id, |(id, _)| *id) {
            Ok(index) => self.in_order.get(index).map(|(_, value)| value),
            Err(_) => self.late.get(&id),
        }
    }

    fn insert(&mut self, id: CommandId, value: V) {
        if Some(id) > self.newest {
            self.newest = Some(id);
            self.in_order.push_back((id, value));
        } else if let Ok(index) = self.in_order.binary_search_by_key(&id, |(id, _)| *id) {
            if let Some(known) = self.in_order.get_mut(index) {
                known.1 = value;
            }
        } else {
            self.late.insert(id, value);
        }
        self.oldest = Some(self.oldest.map_or(id, |oldest| oldest.min(id)));
    }

    fn forget_oldest(&mut self) {
        let Some(oldest) = self.oldest else { return };
        if self.late.remove(&oldest).is_none() {
            self.in_order.pop_front();
        }
        let in_order = self.in_order.front().map(|(id, _)| *id);
        let late = self.late.first_key_value().map(|(id, _)| *id);
        self.oldest = [in_order, late].into_iter().flatten().min();
        self.newest = self.newest.filter(|_| in_order.is_some());
        self.floor = self.floor.max(Some(oldest.time()));
        // What a busy hour took is given back.
        if self.in_order.capacity() > 16 && self.in_order.len() * 4 < self.in_order.capacity() {
            self.in_order.shrink_to(self.in_order.len() * 2);
        }
    }
}

impl<V> ScopedIds<V> {
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            slots: HashMap::default(),
            scopes: Vec::new(),
            earliest: BinaryHeap::new(),
            count: 0,
            by_count: None,
        }
    }

    /// What a scope takes beside its ids: its place in each list, twice as much as is used.
    #[cfg(test)]
    pub(crate) const fn scope_bytes() -> usize {
        let times = times_max(1 << 20) * size_of::<(UnixMicros, Slot)>();
        let counts = counts_max(1 << 20) * size_of::<Slot>();
        let entries = (times + counts) >> 20;
        2 * (size_of::<OfScope<V>>() + size_of::<(Scope, Slot)>() + entries)
    }

    /// How many are remembered.
    pub(crate) const fn len(&self) -> usize {
        self.count
    }

    /// What is remembered of an id.
    pub(crate) fn get(&self, scope: Scope, id: CommandId) -> Option<&V> {
        self.of(scope)?.get(id)
    }

    /// The greatest time in any id of a scope that was forgotten.
    pub(crate) fn floor(&self, scope: Scope) -> Option<UnixMicros> {
        self.of(scope)?.floor
    }

    /// Remembers an id, and forgets others where there would be more than there may be.
    pub(crate) fn remember(&mut self, scope: Scope, id: CommandId, value: V) {
        let slot = self.slot(scope);
        let per_scope_max = self.bounds.per_scope_max;
        while self.in_slot(slot).is_some_and(|of| of.count() >= per_scope_max) {
            self.forget_oldest(slot);
        }
        let Some(of) = self.in_slot_mut(slot) else { return };
        let before = of.count();
        of.insert(id, value);
        let (after, is_earliest) = (of.count(), id.time() < of.entered);
        if is_earliest {
            self.enter(slot);
        }
        self.recount(slot, before, after);
        if self.count > self.bounds.all_max {
            self.forget_of_most();
        }
    }

    /// Forgets every id whose time is earlier.
    pub(crate) fn forget_before(&mut self, time: UnixMicros) {
        while let Some(&Reverse((entered, slot))) = self.earliest.peek()
            && entered < time
        {
            self.earliest.pop();
            // It is outdated.
            if self.in_slot(slot).is_none_or(|of| of.entered != entered) {
                continue;
            }
            let oldest = |ids: &Self| ids.in_slot(slot)?.oldest;
            while oldest(self).is_some_and(|oldest| oldest.time() < time) {
                self.forget_oldest(slot);
            }
            self.enter(slot);
        }
    }

    /// Enters the time of a scope's oldest id among those of all scopes.
    fn enter(&mut self, slot: Slot) {
        let Some(of) = self.in_slot_mut(slot) else { return };
        if let Some(entered) = of.time_to_enter() {
            self.earliest.push(Reverse((entered, slot)));
        }
        if self.earliest.len() > times_max(self.scopes.len()) {
            let scopes = (0..).zip(&mut self.scopes);
            let times = scopes.filter_map(|(slot, of)| Some(Reverse((of.time_to_enter()?, slot))));
            self.earliest = times.collect();
        }
    }

    /// Takes over a floor that was found elsewhere.
    pub(crate) fn raise_floor(&mut self, scope: Scope, floor: UnixMicros) {
        let slot = self.slot(scope);
        if let Some(of) = self.in_slot_mut(slot) {
            of.floor = of.floor.max(Some(floor));
        }
    }

    /// The scopes' floors, where they have one, in the order of the scopes.
    pub(crate) fn floors(&self) -> Vec<(Scope, UnixMicros)> {
        let floors = self.scopes.iter().filter_map(|of| Some((of.scope, of.floor?)));
        let mut floors: Vec<_> = floors.collect();
        floors.sort_unstable_by_key(|(scope, _)| *scope);
        floors
    }

    /// Visits all that is remembered, in the order of scopes and ids.
    pub(crate) fn try_for_each<E>(
        &self,
        mut visit: impl FnMut(Scope, CommandId, &V) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut scopes: Vec<&OfScope<V>> = self.scopes.iter().collect();
        scopes.sort_unstable_by_key(|of| of.scope);
        for of in scopes {
            let mut late = of.late.iter().peekable();
            for (id, value) in &of.in_order {
                while let Some((late_id, value)) = late.next_if(|(late_id, _)| *late_id < id) {
                    visit(of.scope, *late_id, value)?;
                }
                visit(of.scope, *id, value)?;
            }
            late.try_for_each(|(id, value)| visit(of.scope, *id, value))?;
        }
        Ok(())
    }

    fn of(&self, scope: Scope) -> Option<&OfScope<V>> {
        self.in_slot(*self.slots.get(&scope)?)
    }

    fn in_slot(&self, slot: Slot) -> Option<&OfScope<V>> {
        self.scopes.get(usize::try_from(slot).ok()?)
    }

    fn in_slot_mut(&mut self, slot: Slot) -> Option<&mut OfScope<V>> {
        self.scopes.get_mut(usize::try_from(slot).ok()?)
    }

    fn slot(&mut self, scope: Scope) -> Slot {
        if let Some(slot) = self.slots.get(&scope) {
            return *slot;
        }
        let slot = Slot::try_from(self.scopes.len()).unwrap_or(Slot::MAX);
        self.slots.insert(scope, slot);
        self.scopes.push(OfScope::new(scope));
        slot
    }

    fn forget_oldest(&mut self, slot: Slot) {
        let Some(of) = self.in_slot_mut(slot) else { return };
        let before = of.count();
        of.forget_oldest();
        let after = of.count();
        self.recount(slot, before, after);
    }

    fn recount(&mut self, slot: Slot, before: usize, after: usize) {
        self.count = self.count + after - before;
        let Some(by_count) = &mut self.by_count else { return };
        if before != after {
            by_count.enter(slot, after);
        }
        if by_count.entries > counts_max(self.scopes.len()) {
            self.by_count = Some(ByCount::of(&self.scopes));
        }
    }

    /// Lets the scope with most ids forget until there are no more than there may be.
    fn forget_of_most(&mut self) {
        if self.by_count.is_none() {
            self.by_count = Some(ByCount::of(&self.scopes));
        }
        while self.count > self.bounds.all_max
            && let Some((slot, count)) = self.by_count.as_mut().and_then(ByCount::take_most)
        {
            if self.in_slot(slot).is_some_and(|of| of.count() == count) {
                self.forget_oldest(slot);
            }
        }
    }
}

impl ByCount {
    fn of<V>(scopes: &[OfScope<V>]) -> Self {
        let mut by_count = Self::default();
        for (slot, of) in (0..).zip(scopes) {
            by_count.enter(slot, of.count());
        }
        by_count
    }

    /// Notes that a scope has so many by now.
    fn enter(&mut self, slot: Slot, count: usize) {
        if count == 0 {
            return;
        }
        if self.had.len() <= count {
            self.had.resize_with(count + 1, Vec::new);
        }
        if let Some(had) = self.had.get_mut(count) {
            had.push(slot);
            self.entries += 1;
        }
        self.most = self.most.max(count);
    }

    /// Takes the entry with most, and how many that is. The scope may have fewer or more by now:
    /// then it has another entry.
    fn take_most(&mut self) -> Option<(Slot, usize)> {
        while self.most > 0 {
            if let Some(slot) = self.had.get_mut(self.most).and_then(Vec::pop) {
                self.entries -= 1;
                return Some((slot, self.most));
            }
            self.most -= 1;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn id(millis: u16, random: u8) -> CommandId {
        CommandId::from_parts(UnixMicros::new(i64::from(millis) * 1_000), [random; 10])
    }

    fn scope(number: u8) -> Scope {
        (number > 0).then(|| UserId::from_bytes([number; 16]))
    }

    /// The same, told simply: what there should be after each step.
    #[derive(Default)]
    struct Plain {
        ids: BTreeMap<Scope, BTreeMap<CommandId, u32>>,
        floors: BTreeMap<Scope, UnixMicros>,
    }

    impl Plain {
        fn count(&self) -> usize {
            self.ids.values().map(BTreeMap::len).sum()
        }

        fn forget_oldest(&mut self, scope: Scope) {
            let (id, _) = self.ids.get_mut(&scope).unwrap().pop_first().unwrap();
            let floor = self.floors.entry(scope).or_insert(id.time());
            *floor = id.time().max(*floor);
        }
    }

    proptest! {
        /// Guards: whatever comes in whatever order, what is remembered and the floors are those of
        /// the plain telling; of several scopes with most ids any may forget.
        #[test]
        fn what_is_remembered_is_what_the_rules_say(
            steps in prop::collection::vec((0u8..5, any::<u16>(), 0u8..3, prop::bool::weighted(0.05)), 1..400),
        ) {
            let bounds = Bounds { per_scope_max: 20, all_max: 50 };
            let mut ids = ScopedIds::new(bounds);
            let mut plain = Plain::default();
            for (number, (scope_number, millis, random, forgets)) in (0..).zip(steps) {
                let (scope, id) = (scope(scope_number), id(millis, random));
                if forgets {
                    let time = UnixMicros::new(i64::from(millis) * 500);
                    ids.forget_before(time);
                    for scope in plain.ids.keys().copied().collect::<Vec<_>>() {
                        while plain.ids[&scope].keys().next().is_some_and(|id| id.time() < time) {
                            plain.forget_oldest(scope);
                        }
                    }
                } else {
                    let own = plain.ids.entry(scope).or_default();
                    if own.len() == bounds.per_scope_max {
                        plain.forget_oldest(scope);
                    }
                    plain.ids.entry(scope).or_default().insert(id, number);
                    ids.remember(scope, id, number);
                    if plain.count() > bounds.all_max {
                        let most = plain.ids.values().map(BTreeMap::len).max().unwrap();
                        let forgot = plain.ids.iter().find(|(scope, own)| {
                            own.len() == most && own.iter().any(|(id, _)| ids.get(**scope, *id).is_none())
                        });
                        let forgot = *forgot.unwrap().0;
                        plain.forget_oldest(forgot);
                    }
                }
                let expected: Vec<_> = plain
                    .ids
                    .iter()
                    .flat_map(|(scope, own)| own.iter().map(|(id, value)| (*scope, *id, *value)))
                    .collect();
                let mut all = Vec::new();
                let seen = ids.try_for_each(|scope, id, value| {
                    all.push((scope, id, *value));
                    Ok::<_, std::convert::Infallible>(())
                });
                prop_assert_eq!(seen, Ok(()));
                prop_assert_eq!(all, expected);
                prop_assert_eq!(ids.floors(), plain.floors.clone().into_iter().collect::<Vec<_>>());
                prop_assert_eq!(ids.len(), plain.count());
            }
        }
    }
}
