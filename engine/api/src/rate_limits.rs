//! How many requests a client may make: token buckets of several classes, a user's own or a client
//! address's.

use std::hash::Hash;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use daybook_schema::UserId;
use governor::clock::{Clock, DefaultClock};
use governor::middleware::StateInformationMiddleware;
use governor::state::keyed::DashMapStateStore;
use governor::{Quota, RateLimiter};

use crate::client::Neighbourhood;
use crate::settings::{RateLimit, RateLimits as Settings};

/// A class of routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// Most routes.
    Api,
    /// Routes that take a password.
    Auth,
    /// Telemetry.
    Telemetry,
    /// Bets, one each.
    Bet,
    /// Looking up sessions that are not at hand; no route has it.
    LookUp,
    /// All that another backend asks with one token.
    Token,
}

/// Whose requests are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whose {
    /// A user with a session.
    User(UserId),
    /// A client without one.
    Client(Neighbourhood),
}

/// What a request got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Allowed {
    /// It may go on; so many more may come at once.
    Yes { remaining: u32 },
    /// Not before so many seconds.
    NotBefore { seconds: u64 },
}

/// How many client addresses of each kind have a bucket of their own in each class.
const KEYS_MAX: usize = 200_000;
/// Bits of an address whose owners share a bucket once there are too many: an IPv4 address is
/// mapped into IPv6, so that its /16 has 112 bits.
const WIDER_BITS: [u8; 2] = [112, 48];
/// And once there are too many of these.
const WIDEST_BITS: [u8; 2] = [104, 32];

/// Sessions that one client may have looked up.
const LOOK_UPS: RateLimit = RateLimit { burst: 2_000, per_second: 200.0 };

type Buckets<K> = RateLimiter<K, DashMapStateStore<K>, DefaultClock, StateInformationMiddleware>;

/// The buckets of a class. Strangers cannot fill what users have.
struct Limiter {
    /// No more can be taken at once.
    burst: NonZeroU32,
    users: Buckets<UserId>,
    /// Of IPv4 addresses, and of IPv6: a flood from one leaves the other alone.
    clients: [Buckets<Neighbourhood>; 2],
    /// Of networks that share.
    networks: [Buckets<Neighbourhood>; 2],
    /// Requests that it turned away.
    refused: AtomicU64,
}

/// The buckets of all classes.
pub(crate) struct RateLimits([Limiter; 6]);

impl std::fmt::Debug for RateLimits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RateLimits").finish_non_exhaustive()
    }
}

fn quota(limit: RateLimit) -> Quota {
    let burst = NonZeroU32::new(limit.burst).unwrap_or(NonZeroU32::MIN);
    // A limit that was read is neither nothing nor endless.
    let one = Duration::from_secs_f64(1.0 / limit.per_second.clamp(0.001, 1e6));
    Quota::with_period(one).unwrap_or(Quota::per_second(burst)).allow_burst(burst)
}

fn take<K: Clone + Eq + Hash>(buckets: &Buckets<K>, key: &K, tokens: NonZeroU32) -> Allowed {
    match buckets.check_key_n(key, tokens) {
        Ok(Ok(state)) => Allowed::Yes { remaining: state.remaining_burst_capacity() },
        Ok(Err(not_until)) => {
            let wait = not_until.wait_time_from(DefaultClock::default().now());
            // Rounded up: whoever waits that long is let in.
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            Allowed::NotBefore { seconds: seconds.max(1) }
        }
        // More at once than there ever are.
        Err(_) => Allowed::NotBefore { seconds: u64::from(u32::MAX) },
    }
}

impl Limiter {
    fn new(limit: RateLimit) -> Self {
        let quota = quota(limit);
        let two = || {
            let new = || RateLimiter::dashmap(quota).with_middleware();
            [new(), new()]
        };
        let users = RateLimiter::dashmap(quota).with_middleware();
        let burst = NonZeroU32::new(limit.burst).unwrap_or(NonZeroU32::MIN);
        let refused = AtomicU64::new(0);
        Self { burst, users, clients: two(), networks: two(), refused }
    }

    fn take(&self, whose: Whose, tokens: NonZeroU32) -> Allowed {
        let tokens = tokens.min(self.burst);
        let allowed = match whose {
            // As many as are registered and logged in: strangers add none.
            Whose::User(user_id) => take(&self.users, &user_id, tokens),
            Whose::Client(client) => self.take_of_client(client, tokens),
        };
        if let Allowed::NotBefore { .. } = allowed {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
        allowed
    }

    /// Once there are too many, addresses share buckets with their neighbours until the next sweep.
    fn take_of_client(&self, client: Neighbourhood, tokens: NonZeroU32) -> Allowed {
        let [v4, v6] = &self.clients;
        let [v4_networks, v6_networks] = &self.networks;
        let ([v4_wider, v6_wider], [v4_widest, v6_widest]) = (WIDER_BITS, WIDEST_BITS);
        let (own, networks, wider, widest) = match client.is_v4() {
            true => (v4, v4_networks, v4_wider, v4_widest),
            false => (v6, v6_networks, v6_wider, v6_widest),
        };
        if own.len() < KEYS_MAX {
            return take(own, &client, tokens);
        }
        let bits = if networks.len() < KEYS_MAX { wider } else { widest };
        take(networks, &client.network(bits), tokens)
    }

    fn sweep(&self) {
        self.users.retain_recent();
        self.users.shrink_to_fit();
        for buckets in self.clients.iter().chain(&self.networks) {
            buckets.retain_recent();
            buckets.shrink_to_fit();
        }
    }
}

impl RateLimits {
    pub(crate) fn new(settings: &Settings) -> Self {
        let classes =
            [Class::Api, Class::Auth, Class::Telemetry, Class::Bet, Class::LookUp, Class::Token];
        Self(classes.map(|class| {
            Limiter::new(match class {
                Class::Api => settings.api,
                Class::Auth => settings.auth,
                Class::Telemetry => settings.telemetry,
                Class::Bet => settings.bet,
                Class::LookUp => LOOK_UPS,
                Class::Token => settings.token,
            })
        }))
    }

    /// How many requests each class turned away.
    pub(crate) fn refused(&self) -> [(&'static str, u64); 6] {
        let [api, auth, telemetry, bet, look_up, token] =
            self.0.each_ref().map(|limiter| limiter.refused.load(Ordering::Relaxed));
        [
            ("api", api),
            ("auth", auth),
            ("telemetry", telemetry),
            ("bet", bet),
            ("look-up", look_up),
            ("token", token),
        ]
    }

    /// Takes tokens of a class.
    pub(crate) fn take(&self, class: Class, whose: Whose, tokens: NonZeroU32) -> Allowed {
        let [api, auth, telemetry, bet, look_up, token] = &self.0;
        let limiter = match class {
            Class::Api => api,
            Class::Auth => auth,
            Class::Telemetry => telemetry,
            Class::Bet => bet,
            Class::LookUp => look_up,
            Class::Token => token,
        };
        limiter.take(whose, tokens)
    }

    /// Forgets whose bucket is full again. To be called each minute.
    pub(crate) fn sweep(&self) {
        self.0.iter().for_each(Limiter::sweep);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(last: u8) -> Whose {
        Whose::Client(Neighbourhood::of(std::net::Ipv4Addr::new(192, 0, 2, last).into()))
    }

    /// Guards: the burst, what is told on a refusal, and that others have their own.
    #[test]
    fn a_burst_is_let_in_and_then_the_wait_is_told() {
        let limits = RateLimits::new(&Settings::default());
        let one = NonZeroU32::MIN;
        for left in (0..5).rev() {
            let allowed = limits.take(Class::Auth, client(1), one);
            assert_eq!(allowed, Allowed::Yes { remaining: left });
        }
        let refused = limits.take(Class::Auth, client(1), one);
        assert!(matches!(refused, Allowed::NotBefore { seconds: 1..=10 }), "{refused:?}");
        assert_eq!(limits.take(Class::Auth, client(2), one), Allowed::Yes { remaining: 4 });
        assert_eq!(limits.take(Class::Api, client(1), one), Allowed::Yes { remaining: 99 });
        let four = NonZeroU32::new(4).unwrap();
        assert_eq!(limits.take(Class::Bet, client(1), four), Allowed::Yes { remaining: 6 });
    }

    /// Guards: a flood of addresses ends in shared buckets, and others keep theirs.
    #[test]
    fn buckets_are_bounded_in_number() {
        let limits = RateLimits::new(&Settings::default());
        let one = NonZeroU32::MIN;
        for number in 0..u64::try_from(KEYS_MAX).unwrap() + 10_000 {
            let network = std::net::Ipv6Addr::from(u128::from(number) << 64);
            limits.take(Class::Auth, Whose::Client(Neighbourhood::of(network.into())), one);
        }
        let [_, auth, ..] = &limits.0;
        let [_, v6] = &auth.clients;
        let [_, networks] = &auth.networks;
        assert!(v6.len() <= KEYS_MAX && networks.len() < 10);
        assert_eq!(limits.take(Class::Auth, client(1), one), Allowed::Yes { remaining: 4 });
        let user = Whose::User(UserId::random());
        assert_eq!(limits.take(Class::Auth, user, one), Allowed::Yes { remaining: 4 });
    }
}
