//! How much each user and each client address stores on a UTC day: one client cannot fill what all
//! share.

use dashmap::DashMap;
use daybook_schema::UserId;

use crate::client::Neighbourhood;

pub(super) const DAY_MS: i64 = 86_400_000;

/// Client addresses that are counted for themselves; beyond that, networks of them.
const CLIENTS_MAX: usize = 200_000;
/// Bits of such a network, as of an IPv4 address mapped into IPv6, and of an IPv6 address.
const NETWORK_BITS: [u8; 2] = [112, 48];

/// The UTC day of a time, since 1970.
pub(super) const fn day_of(ms: i64) -> i64 {
    ms.div_euclid(DAY_MS)
}

/// Whose amount something counts for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Whose {
    /// A user who is logged in.
    User(UserId),
    /// A client address without a session.
    Client(Neighbourhood),
}

impl Whose {
    /// As a key of a table.
    pub(super) fn to_bytes(self) -> Vec<u8> {
        let (kind, bytes) = match &self {
            Self::User(user_id) => (0, user_id.as_bytes()),
            Self::Client(client) => (1, client.as_bytes()),
        };
        [&[kind], bytes.as_slice()].concat()
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (kind, bytes) = bytes.split_first()?;
        let bytes: [u8; 16] = bytes.try_into().ok()?;
        match kind {
            0 => Some(Self::User(UserId::from_bytes(bytes))),
            1 => Some(Self::Client(Neighbourhood::from_bytes(bytes))),
            _ => None,
        }
    }
}

/// What counts for a day's amount, stored or under way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Charge {
    pub(super) whose: Whose,
    pub(super) day: i64,
    pub(super) events: u32,
}

#[derive(Clone, Copy, Debug)]
struct OfDay {
    day: i64,
    events: u32,
}

/// The amounts of the newest day.
#[derive(Debug, Default)]
pub(crate) struct Amounts(DashMap<Whose, OfDay>);

impl Amounts {
    /// What was stored before; what is counted already has it, and what is under way.
    pub(super) fn load(&self, whose: Whose, day: i64, events: u32) {
        self.0.entry(whose).or_insert(OfDay { day, events });
    }

    /// Forgets somebody.
    pub(super) fn forget(&self, whose: Whose) {
        self.0.remove(&whose);
    }

    /// Counts events of a day, unless they would be more than there may be.
    pub(crate) fn charge(
        &self,
        whose: Whose,
        now_ms: i64,
        events: u32,
        most: u32,
    ) -> Option<Charge> {
        let (whose, day) = (self.counted_as(whose), day_of(now_ms));
        let mut of_day = self.0.entry(whose).or_insert(OfDay { day, events: 0 });
        if of_day.day != day {
            *of_day = OfDay { day, events: 0 };
        }
        let after = of_day.events.checked_add(events).filter(|after| *after <= most)?;
        of_day.events = after;
        Some(Charge { whose, day, events })
    }

    fn counted_as(&self, whose: Whose) -> Whose {
        match whose {
            Whose::Client(client)
                if self.0.len() >= CLIENTS_MAX && !self.0.contains_key(&whose) =>
            {
                let [v4, v6] = NETWORK_BITS;
                Whose::Client(client.network(if client.is_v4() { v4 } else { v6 }))
            }
            other => other,
        }
    }

    /// Takes back what was not stored.
    pub(super) fn give_back(&self, charge: Charge, events: u32) {
        if let Some(mut of_day) = self.0.get_mut(&charge.whose)
            && of_day.day == charge.day
        {
            of_day.events = of_day.events.saturating_sub(events);
        }
    }

    /// Forgets other days.
    pub(super) fn sweep(&self, now_ms: i64) {
        let day = day_of(now_ms);
        self.0.retain(|_, of_day| of_day.day == day);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(network: u64) -> Whose {
        let address = std::net::Ipv6Addr::from(u128::from(network) << 64);
        Whose::Client(Neighbourhood::of(address.into()))
    }

    /// Guards: an amount is the day's, what was not stored does not count, and others have their own.
    #[test]
    fn an_amount_is_a_days() {
        let amounts = Amounts::default();
        let (user, noon) = (Whose::User(UserId::random()), 20_000 * DAY_MS + DAY_MS / 2);
        let charge = amounts.charge(user, noon, 90, 100).unwrap();
        assert!(amounts.charge(user, noon, 11, 100).is_none());
        amounts.give_back(charge, 5);
        assert!(amounts.charge(user, noon, 15, 100).is_some());
        assert!(amounts.charge(user, noon, 1, 100).is_none());
        assert!(amounts.charge(client(1), noon, 100, 100).is_some());
        assert!(amounts.charge(user, noon + DAY_MS, 100, 100).is_some());
        amounts.give_back(charge, 85);
        assert!(amounts.charge(user, noon + DAY_MS, 1, 100).is_none(), "it was of the day before");
    }

    /// Guards: a flood of addresses ends in shared amounts, and is bounded in number.
    #[test]
    fn amounts_are_bounded_in_number() {
        let amounts = Amounts::default();
        for network in 0..u64::try_from(CLIENTS_MAX).unwrap() + 70_000 {
            amounts.charge(client(network), 0, 1, 100);
        }
        assert!(amounts.0.len() <= CLIENTS_MAX + 2);
        assert!(amounts.charge(Whose::User(UserId::random()), 0, 1, 100).is_some());
    }

    /// Guards: a key comes back as it was.
    #[test]
    fn keys_come_back() {
        for whose in [Whose::User(UserId::random()), client(7)] {
            assert_eq!(Whose::from_bytes(&whose.to_bytes()), Some(whose));
        }
    }
}
