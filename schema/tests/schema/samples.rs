//! One event of every kind, with values that fill their fields.

use daybook_schema::events::*;
use daybook_schema::*;

fn bytes<const N: usize>(first: u8) -> [u8; N] {
    std::array::from_fn(|index| first.wrapping_add(u8::try_from(index).unwrap()))
}

fn day(number: u8) -> DayNumber {
    DayNumber::new(number).unwrap()
}

fn coins(amount: u64) -> Coins {
    Coins::new(amount).unwrap()
}

fn score(points: u64) -> Score {
    Score::new(points).unwrap()
}

fn companion() -> Companion {
    Companion {
        simulin_id: SimulinId::from_bytes(bytes(0x10)),
        species: Species::Ladybot,
        path: Some(SimulinPath::Lucky),
    }
}

/// In the order of the table of kinds.
pub fn every_kind() -> Vec<Event> {
    let simulin_id = SimulinId::from_bytes(bytes(0x10));
    let traits = [7, 100, 0].map(|level| TraitLevel::new(level).unwrap());
    vec![
        KeyRotated { key_id: KeyId::new(bytes(0x20)), compromised: true }.into(),
        LedgerRestored {
            epoch: Epoch { number: 300, nonce: EpochNonce::new(bytes(0x30)) },
            lost_heads: LostHeads::take_from([
                Head { seq: 70_000, hash: EventHash::new(bytes(0x40)) },
                Head { seq: 9, hash: EventHash::new(bytes(0x60)) },
            ]),
        }
        .into(),
        UserRegistered {}.into(),
        UserErased {}.into(),
        SessionStarted { session_number: SessionNumber::new(250).unwrap() }.into(),
        SessionEnded {
            session_number: SessionNumber::new(251).unwrap(),
            reason: SessionEndReason::Expired,
        }
        .into(),
        CommitmentPublished {
            season_number: SeasonNumber::new(65_536).unwrap(),
            key_id: KeyId::new(bytes(0x20)),
            commitment: Commitment::new(bytes(0x40)),
        }
        .into(),
        SimulinAdopted {
            simulin_id,
            adoption_number: AdoptionNumber::new(3).unwrap(),
            species: Species::Ladybot,
            personality: Personality {
                curiosity: traits[0],
                courage: traits[1],
                warmth: traits[2],
            },
        }
        .into(),
        SimulinPathChosen { simulin_id, path: SimulinPath::Watcher }.into(),
        SimulinRetired { simulin_id }.into(),
        SimulinXpGained {
            simulin_id,
            gained: BondXp::new(50).unwrap(),
            bond_xp: BondXp::new(11_757).unwrap(),
        }
        .into(),
        SimulinLevelReached { simulin_id, bond_level: BondLevel::MAX }.into(),
        SeasonStarted {
            user_id: UserId::from_bytes(bytes(0x50)),
            season_number: SeasonNumber::new(2).unwrap(),
            ruleset: RulesetNumber::MIN,
            key_id: KeyId::new(bytes(0x20)),
            commitment: Commitment::new(bytes(0x40)),
            commitment_seq: Seq::new(70_000).unwrap(),
            commitment_hash: EventHash::new(bytes(0x60)),
            client_seed_source: ClientSeedSource::IdempotencyKey,
            client_digest: ClientDigest::new(bytes(0x70)),
            day_key_zero: DayKey::new(bytes(0x80)),
            companion: Some(companion()),
            coins: coins(500),
        }
        .into(),
        SeasonCompleted {
            final_score: score(4_711),
            coins: coins(1_234),
            season_secret: DayKey::new(bytes(0x90)),
        }
        .into(),
        SeasonAbandoned {
            escrow_returned: coins(0),
            coins: coins(500),
            season_secret: Some(DayKey::new(bytes(0x90))),
        }
        .into(),
        SeasonExpired { escrow_returned: coins(30), coins: coins(530), season_secret: None }.into(),
        SuspicionFlagged { day_number: day(28), code: SuspicionCode::CoinManipulation }.into(),
        DayOpened { day_number: day(1), weather: Weather::Stormy }.into(),
        DayResolved {
            day_number: day(22),
            day_key: DayKey::new(bytes(0xa0)),
            pot_levels: PerPot { water: 0, sun: 49, pest: 80, growth: 100 }.map_levels(),
            pot_events: PerPot {
                water: PotEvent::None,
                sun: PotEvent::Boon,
                pest: PotEvent::Bane,
                growth: PotEvent::Windfall,
            },
            troubles: Troubles::take_from([
                Trouble { kind: TroubleKind::Frost, severity: Severity::MAX, cleared: false },
                Trouble { kind: TroubleKind::Blight, severity: Severity::MIN, cleared: true },
            ]),
            score: score(450),
        }
        .into(),
        StipendGranted { day_number: day(2), amount: coins(49) }.into(),
        BetPlaced {
            day_number: day(3),
            pot_id: Pot::Growth,
            bet_type: BetType::AllIn,
            amount: coins(10_000),
        }
        .into(),
        BetResolved {
            day_number: day(3),
            pot_id: Pot::Growth,
            amount: coins(10_000),
            threshold: Some(Threshold::Hundred),
            payout: coins(374_185),
            jackpot_share: Millicoins::new(100_000).unwrap(),
        }
        .into(),
        TriggerEarned { day_number: day(7), trigger_type: Trigger::SimulinSync }.into(),
        WeekEvaluated {
            week_number: WeekNumber::MAX,
            hand: Hand::RoyalFlush,
            multiplier: HandMultiplier::MAX,
            score: score(120_000),
        }
        .into(),
        JackpotPaid { week_number: WeekNumber::MIN, amount: coins(1_000) }.into(),
    ]
}

trait MapLevels {
    fn map_levels(self) -> PerPot<PotLevel>;
}

impl MapLevels for PerPot<u8> {
    fn map_levels(self) -> PerPot<PotLevel> {
        PerPot::from_fn(|pot| PotLevel::new(*self.get(pot)).unwrap())
    }
}
