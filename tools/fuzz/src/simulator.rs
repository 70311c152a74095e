//! Commands out of bytes, against a world in which each is refused or audited and the accounts
//! balance.

use daybook_schema::commands::{BetOrder, BetOrders, ClientSeed};
use daybook_schema::events::LostHeads;
use daybook_schema::{
    BetType, Coins, Command, Commitment, DayNumber, EpochNonce, EventHash, Head, Pot, SeasonId,
    SessionEndReason, SessionNumber, SimulinId, SimulinPath, Species, SuspicionCode, UserId,
};

use crate::world::{DAY, SECOND, World, season_key, user};

/// Bytes that are taken one after another; zeros when there are none left.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn next(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[usize::from(self.next()) % all.len()]
    }

    fn user(&mut self) -> UserId {
        user(1 + self.next() % 4)
    }
}

pub fn corpus() -> Vec<Vec<u8>> {
    let register: Vec<u8> = (0..4).flat_map(|user| [0, user]).collect();
    let play: Vec<u8> = (0..28).flat_map(|_| [5, 0, 3, 0, 1, 9, 6, 0]).collect();
    let all: Vec<u8> = (0..=255).collect();
    let whole = [register.clone(), vec![2, 0, 2, 1], vec![4, 0, 1], play].concat();
    vec![whole, [register, all.clone(), all.clone()].concat(), all]
}

pub fn run(input: &[u8]) {
    let mut world = World::new();
    let mut bytes = Bytes(input);
    while !bytes.0.is_empty() {
        let wait = [0, 1, SECOND, SECOND, SECOND, 3_600 * SECOND, DAY, 31 * DAY];
        let before = world.state.hash();
        let command = command(&world, &mut bytes);
        // World::run holds an accepted command to its audit and the accounts to their sum.
        if world.run(&command).is_err() {
            assert_eq!(world.state.hash(), before, "a refused command changes nothing");
        }
        world.wait(bytes.one_of(&wait));
    }
}

fn command(world: &World, bytes: &mut Bytes<'_>) -> Command {
    let number = bytes.next();
    let user_id = bytes.user();
    let known = world.state.users.get(&user_id);
    let season_id =
        known.and_then(|known| known.season_in_play).unwrap_or(SeasonId::from_bytes([7; 16]));
    let simulin_id = known.and_then(|known| known.simulins.first()).map(|own| own.simulin_id);
    let session_number = SessionNumber::clamped(u32::from(bytes.next() % 8));
    let some_simulin = simulin_id.unwrap_or(SimulinId::from_bytes([6; 16]));
    match number % 17 {
        0 => Command::RegisterUser { user_id },
        1 => Command::EraseUser { user_id },
        2 => Command::AdoptSimulin { user_id, species: bytes.one_of(Species::ALL) },
        3 => Command::StartSession { user_id },
        4 => Command::StartSeason {
            user_id,
            commitment: known
                .and_then(|known| known.next_commitment)
                .map_or(Commitment::new([5; 32]), |next| next.commitment),
            client_seed: ClientSeed::from_seed(&[bytes.next(); 32]),
            simulin_id: simulin_id.filter(|_| session_number.get().is_multiple_of(2)),
        },
        5 | 16 => match bets(bytes) {
            Some(bets) => Command::PlaceBets { user_id, season_id, bets },
            None => Command::AbandonSeason { user_id, season_id },
        },
        6 | 15 => {
            let season = world.state.seasons.get(&season_id);
            let today = season.map_or(DayNumber::MIN, |season| season.day_number);
            let expected_day =
                if bytes.next() % 16 == 15 { DayNumber::clamped(bytes.next()) } else { today };
            Command::AdvanceDay { user_id, season_id, expected_day }
        }
        7 => Command::AbandonSeason { user_id, season_id },
        8 => Command::ExpireSeason { user_id, season_id },
        9 => Command::FlagSuspicion {
            user_id,
            season_id,
            day_number: DayNumber::clamped(bytes.next() % 30),
            code: bytes.one_of(SuspicionCode::ALL),
        },
        10 => Command::RenewCommitment { user_id },
        11 => Command::RotateKey {
            key_id: season_key(bytes.next() % 3).key_id(),
            compromised: bytes.next().is_multiple_of(2),
        },
        12 => {
            let nonce = EpochNonce::new([bytes.next(); 16]);
            let (count, first_seq) = (bytes.next() % 10, u64::from(bytes.next()));
            let heads = (0..count)
                .map(|at| Head { seq: first_seq + u64::from(at), hash: EventHash::new([at; 32]) });
            match bytes.next() % 2 {
                0 => Command::RestoreLedger { nonce },
                _ => Command::AcceptLoss { nonce, lost_heads: LostHeads::take_from(heads) },
            }
        }
        13 => Command::EndSession {
            user_id,
            session_number,
            reason: bytes.one_of(SessionEndReason::ALL),
        },
        _ => {
            let path = bytes.one_of(SimulinPath::ALL);
            match bytes.next() % 2 {
                0 => Command::ChooseSimulinPath { user_id, simulin_id: some_simulin, path },
                _ => Command::RetireSimulin { user_id, simulin_id: some_simulin },
            }
        }
    }
}

/// One to four bets, if no two are on one pot.
fn bets(bytes: &mut Bytes<'_>) -> Option<BetOrders> {
    let count = 1 + bytes.next() % 4;
    let bets: Vec<BetOrder> = (0..count)
        .map(|_| BetOrder {
            pot_id: bytes.one_of(Pot::ALL),
            bet_type: bytes.one_of(BetType::ALL),
            amount: Coins::clamped(u64::from(bytes.next()).pow(2) / 7),
        })
        .collect();
    BetOrders::new(&bets).ok()
}
