//! Guards: a ledger that was tampered with in any way is never accepted, and the verdict and the
//! seq are those that follow from what was done, not from what verify says.
//!
//! Each mutation draws its place by chance. Which of verify's checks each is the witness of stands
//! in docs/PROMISES.md; switching such a check off makes this test fail.

use daybook_ledger::{Head, KnownHead, Verdict, VerifyOptions, make_snapshot, verify};
use daybook_schema::chain::{CommandMark, CommandPart};
use daybook_schema::{
    Coins, Event, EventHash, Game, Genesis, LedgerFormat, LedgerId, Score, SeasonNumber, UnixMicros,
};
use daybook_simulator::Generator;

use crate::fixture::{START, repeats};
use crate::tampering::{Row, Victim, genesis_hash, rehash, verdict_on};

const CASES: u64 = 2_000;

/// What verify should say.
type Expected = (Verdict, Option<i64>);
/// Changes a ledger; `None` where the place that was drawn does not suit.
type Mutation = fn(&mut Case<'_>) -> Option<Expected>;

/// A ledger that is about to be tampered with.
struct Case<'a> {
    victim: &'a Victim,
    /// Another ledger's rows, of the same length or longer.
    foreign: &'a [Row],
    rows: Vec<Row>,
    chance: Generator,
    /// Run on the file after the rows were written.
    sql: String,
    heads: Vec<KnownHead>,
    full: bool,
}

impl Case<'_> {
    fn below(&mut self, count: usize) -> usize {
        self.chance.below(count as u64) as usize
    }

    fn any_row(&mut self) -> usize {
        self.below(self.rows.len())
    }

    /// A row that has rows after it.
    fn early_row(&mut self) -> usize {
        self.below(self.rows.len() - 1)
    }

    fn seq(&self, index: usize) -> Option<i64> {
        Some(self.rows[index].seq)
    }

    fn event(&self, index: usize) -> Event {
        let row = &self.rows[index];
        Event::decode(row.kind.try_into().unwrap(), 1, &row.payload).unwrap()
    }

    fn put(&mut self, index: usize, event: &Event) {
        self.rows[index].payload.clear();
        event.encode(&mut self.rows[index].payload);
    }

    /// Makes every hash anew, as a forger who owns the file would.
    fn rehash(&mut self) {
        rehash(&mut self.rows, genesis_hash(self.victim));
    }

    /// The first row of the command that a row belongs to.
    fn command_of(&self, index: usize) -> usize {
        index - usize::from(self.rows[index].command[0])
    }

    /// A row for which a test holds, the first from a place that is drawn.
    fn find(&mut self, wanted: impl Fn(&Row) -> bool) -> usize {
        let (from, count) = (self.any_row(), self.rows.len());
        (0..count).map(|step| (from + step) % count).find(|at| wanted(&self.rows[*at])).unwrap()
    }

    fn find_kind(&mut self, kind: i64) -> usize {
        self.find(|row| row.kind == kind)
    }

    fn genesis(&self) -> Genesis {
        Genesis {
            ledger_id: LedgerId::from_bytes([0x22; 16]),
            format: LedgerFormat::NEWEST,
            created_at: START,
            is_demo: true,
            game: Game::FarmingSeason,
        }
    }

    /// A genesis in the place of the ledger's own, with a hash that holds.
    fn replace_genesis(&mut self, genesis: &Genesis) {
        let hex = |bytes: &[u8]| crate::fixture::hex(bytes);
        self.sql = format!(
            "DROP TRIGGER genesis_refuse_update;
             UPDATE genesis SET ledger_id = x'{}', format_version = {}, created_at = {}, hash = x'{}';
             {};",
            hex(genesis.ledger_id.as_bytes()),
            genesis.format.number(),
            genesis.created_at.get(),
            hex(genesis.hash().as_bytes()),
            guard("genesis_refuse_update"),
        );
    }
}

/// The SQL of one of the guards.
fn guard(name: &str) -> &'static str {
    let parts = LedgerFormat::NEWEST.sql().split("\n\n");
    parts.into_iter().find(|part| part.contains(&format!("CREATE TRIGGER {name}"))).unwrap()
}

const MUTATIONS: [(&str, Mutation); 34] = [
    ("a bit of a column", |case| {
        let (at, bit) = (case.any_row(), case.below(512));
        let column = case.below(8);
        let row = &mut case.rows[at];
        let flip = |bytes: &mut Vec<u8>| {
            let length = bytes.len().max(1);
            bytes.get_mut(bit / 8 % length).map(|byte| *byte ^= 1 << (bit % 8))
        };
        match column {
            0 => row.recorded_at ^= 1 << (bit % 64),
            1 => flip(&mut row.stream)?,
            2 => row.stream_prev ^= 1 << (bit % 64),
            3 => row.kind ^= 1 << (bit % 64),
            4 => row.version ^= 1 << (bit % 64),
            5 => flip(&mut row.command)?,
            6 => flip(&mut row.payload)?,
            _ => flip(&mut row.hash)?,
        }
        Some((verdict_on(&case.rows[at]), case.seq(at)))
    }),
    ("a column of another form", |case| {
        let at = case.any_row();
        let form = case.below(8);
        let row = &mut case.rows[at];
        match form {
            0 => row.stream.truncate(15),
            1 => row.stream.push(0),
            2 => row.hash.truncate(31),
            3 => row.command.push(0),
            4 => row.command.truncate(1),
            5 => row.stream_prev = -1,
            6 => row.kind = 70_000,
            _ => row.version = -1,
        }
        Some((Verdict::Unreadable, case.seq(at)))
    }),
    ("a payload with more bytes, hashed anew", |case| {
        let at = case.any_row();
        case.rows[at].payload.push(0);
        case.rehash();
        Some((Verdict::Unreadable, case.seq(at)))
    }),
    ("a payload in another encoding, hashed anew", |case| {
        let at = case.find(|row| row.kind == 50 && *row.payload.last().unwrap() < 251);
        let amount = case.rows[at].payload.pop().unwrap();
        case.rows[at].payload.extend([251, amount, 0]);
        case.rehash();
        Some((Verdict::Unreadable, case.seq(at)))
    }),
    ("a kind that there is not, hashed anew", |case| {
        let at = case.any_row();
        case.rows[at].kind = 999;
        case.rehash();
        Some((Verdict::Unreadable, case.seq(at)))
    }),
    ("a row deleted", |case| {
        let at = case.early_row();
        let seq = case.seq(at);
        case.rows.remove(at);
        Some((Verdict::Gap, seq))
    }),
    ("rows deleted", |case| {
        let (from, to) = (case.early_row(), case.early_row());
        let (from, to) = (from.min(to), from.max(to));
        let seq = case.seq(from);
        case.rows.drain(from..=to);
        Some((Verdict::Gap, seq))
    }),
    ("a row inserted before the first", |case| {
        let at = case.any_row();
        let seq = -(case.below(9) as i64);
        case.rows.push(Row { seq, ..case.rows[at].clone() });
        Some((Verdict::Unreadable, Some(1)))
    }),
    ("a row inserted far behind the last", |case| {
        let at = case.any_row();
        let next = case.rows.len() as i64 + 1;
        let seq = next + 1 + case.below(1_000) as i64;
        case.rows.push(Row { seq, ..case.rows[at].clone() });
        Some((Verdict::Gap, Some(next)))
    }),
    ("a row inserted behind the last", |case| {
        let at = case.any_row();
        let seq = case.rows.len() as i64 + 1;
        case.rows.push(Row { seq, ..case.rows[at].clone() });
        Some((Verdict::Altered, Some(seq)))
    }),
    ("a seq changed in place", |case| {
        let at = case.early_row();
        let seq = case.rows[at].seq;
        let changed = if case.below(2) == 0 { -seq } else { seq + (1 << 40) };
        case.rows[at].seq = changed;
        let first =
            if changed < 0 { (Verdict::Unreadable, Some(1)) } else { (Verdict::Gap, Some(seq)) };
        Some(first)
    }),
    ("two rows swapped", |case| {
        let (a, b) = (case.any_row(), case.any_row());
        let (a, b) = (a.min(b), a.max(b));
        let seqs = (case.rows[a].seq, case.rows[b].seq);
        case.rows.swap(a, b);
        (case.rows[a].seq, case.rows[b].seq) = seqs;
        (a != b).then_some((Verdict::Altered, Some(seqs.0)))
    }),
    ("INSERT OR REPLACE, past the guards", |case| {
        let (at, from) = (case.any_row(), case.any_row());
        let (seq, other) = (case.rows[at].seq, case.rows[from].seq);
        case.sql = format!(
            "INSERT OR REPLACE INTO events SELECT {seq}, recorded_at, stream, stream_prev, kind, \
             version, command, payload, hash FROM events WHERE seq = {other}"
        );
        (at != from).then_some((Verdict::Altered, Some(seq)))
    }),
    ("a row of another ledger", |case| {
        let at = case.any_row();
        case.rows[at] = case.foreign[at].clone();
        Some((Verdict::Altered, case.seq(at)))
    }),
    ("all rows of another ledger from one on", |case| {
        let at = case.any_row();
        case.rows.truncate(at);
        case.rows.extend_from_slice(&case.foreign[at..]);
        Some((Verdict::Altered, case.seq(at)))
    }),
    ("a stream linked elsewhere, hashed anew", |case| {
        let at = case.any_row();
        let other = case.below(case.rows.len() + 5) as i64;
        let changed = case.rows[at].stream_prev != other;
        case.rows[at].stream_prev = other;
        case.rehash();
        changed.then_some((Verdict::BrokenLink, case.seq(at)))
    }),
    ("a row put into another stream, hashed anew", |case| {
        let at = case.find(|row| row.stream_prev != 0);
        case.rows[at].stream = vec![0x77; 16];
        case.rehash();
        Some((Verdict::BrokenLink, case.seq(at)))
    }),
    ("a stream that begins as none does, hashed anew", |case| {
        let at = case.find(|row| row.stream_prev != 0 && row.kind != 10 && row.kind != 1);
        (case.rows[at].stream, case.rows[at].stream_prev) = (vec![0x77; 16], 0);
        case.rehash();
        Some((Verdict::BrokenLink, case.seq(at)))
    }),
    ("an event after its season's end, hashed anew", |case| {
        let end = case.find_kind(31);
        let seq = case.rows.len() as i64 + 1;
        let flagged = case.rows[case.rows.len() - 1].clone();
        let id = daybook_schema::CommandId::from_parts(START, [3; 10]);
        let mark = CommandMark { id, hash: daybook_schema::CommandHash::new([0; 16]) };
        let (command, length) = CommandPart { place: 0, size: 1, mark: Some(mark) }.to_bytes();
        let stream_prev = if case.below(2) == 0 { case.rows[end].seq } else { 0 };
        case.rows.push(Row {
            seq,
            stream: case.rows[end].stream.clone(),
            stream_prev,
            kind: 34,
            command: command[..length].to_vec(),
            payload: vec![28, 0],
            ..flagged
        });
        case.rehash();
        Some((Verdict::BrokenLink, Some(seq)))
    }),
    ("a season that is not the user's next, hashed anew", |case| {
        let at = case.find_kind(30);
        let Event::SeasonStarted(mut started) = case.event(at) else { return None };
        started.season_number = SeasonNumber::new(2 + case.below(9) as u32).unwrap();
        case.put(at, &Event::SeasonStarted(started));
        case.rehash();
        Some((Verdict::BrokenLink, case.seq(at)))
    }),
    ("time that goes back, hashed anew", |case| {
        let at = case.find(|row| row.command[0] == 0 && row.seq > 1);
        let size = usize::from(case.rows[at].command[1]);
        case.rows[at..at + size].iter_mut().for_each(|row| row.recorded_at -= 3_600_000_000);
        case.rehash();
        Some((Verdict::BrokenLink, case.seq(at)))
    }),
    ("time that differs within a command, hashed anew", |case| {
        let at = case.find(|row| row.command[0] > 0);
        case.rows[at].recorded_at += 1;
        case.rehash();
        Some((Verdict::BrokenLink, case.seq(at)))
    }),
    ("a command cut in two, hashed anew", |case| {
        let at = case.find(|row| row.command[0] > 0);
        let size = case.rows[at].command[1];
        let id = daybook_schema::CommandId::from_parts(START, [4; 10]);
        let mark = CommandMark { id, hash: daybook_schema::CommandHash::new([0; 16]) };
        let (command, length) = CommandPart { place: 0, size, mark: Some(mark) }.to_bytes();
        case.rows[at].command = command[..length].to_vec();
        case.rehash();
        Some((Verdict::BrokenLink, case.seq(at)))
    }),
    ("a command that says to be longer, hashed anew", |case| {
        let at = case.find(|row| row.command[0] > 0);
        case.rows[at].command[1] += 1;
        case.rehash();
        Some((Verdict::BrokenLink, case.seq(at)))
    }),
    ("the last command cut short", |case| {
        let size = usize::from(case.rows[case.rows.len() - 1].command[1]);
        let cut = 1 + case.below(size.max(2) - 1);
        case.rows.truncate(case.rows.len() - cut);
        (size > 1).then_some((Verdict::BrokenLink, case.seq(case.rows.len() - 1)))
    }),
    ("the tail cut, a head noted", |case| {
        let last = case.rows[case.rows.len() - 1].clone();
        let hash = EventHash::new(last.hash.try_into().unwrap());
        case.heads.push(Head { seq: last.seq.unsigned_abs(), hash }.into());
        let at = case.find(|row| row.command[0] == 0 && row.seq > 1);
        case.rows.truncate(at);
        Some((Verdict::Truncated, Some(at as i64 + 1)))
    }),
    ("a suffix hashed anew, a head noted", |case| {
        // With --full the seasons tell too: they name the hash of their commitment.
        case.full = false;
        let noted = case.any_row();
        let hash = EventHash::new(case.rows[noted].hash.clone().try_into().unwrap());
        case.heads.push(Head { seq: noted as u64 + 1, hash }.into());
        let at = case.below(noted + 1);
        let at = case.command_of(at);
        let changed = case.rows[at].command.get_mut(17)?;
        *changed ^= 1;
        case.rehash();
        Some((Verdict::HeadMismatch, case.seq(noted)))
    }),
    ("the genesis edited", |case| {
        let edit = [
            "created_at = created_at + 1",
            "is_demo = 0",
            "is_demo = 3",
            "id = 1, hash = zeroblob(32)",
            "ledger_id = zeroblob(16)",
            "ledger_id = zeroblob(15)",
            "format_version = 1",
            "game = 'Farming Season'",
            "game = ''",
        ];
        let edit = edit[case.below(edit.len())];
        case.sql = format!(
            "DROP TRIGGER genesis_refuse_update; UPDATE genesis SET {edit}; {};",
            guard("genesis_refuse_update")
        );
        Some((Verdict::BrokenLink, Some(0)))
    }),
    ("the genesis edited and hashed anew", |case| {
        let genesis = Genesis { created_at: START.plus_micros(-1), ..case.genesis() };
        case.replace_genesis(&genesis);
        Some((Verdict::Altered, Some(1)))
    }),
    ("a genesis of another format, all hashed anew", |case| {
        let genesis = Genesis { format: LedgerFormat::V1, ..case.genesis() };
        case.replace_genesis(&genesis);
        rehash(&mut case.rows, genesis.hash());
        Some((Verdict::BrokenLink, Some(0)))
    }),
    ("a genesis after the first event, all hashed anew", |case| {
        let created_at = UnixMicros::new(case.rows[0].recorded_at + 1);
        let genesis = Genesis { created_at, ..case.genesis() };
        case.replace_genesis(&genesis);
        rehash(&mut case.rows, genesis.hash());
        Some((Verdict::BrokenLink, Some(1)))
    }),
    ("guards dropped, changed, or others added", |case| {
        let names = [
            "events_refuse_update",
            "events_refuse_delete",
            "genesis_refuse_update",
            "genesis_refuse_delete",
        ];
        let name = names[case.below(4)];
        case.sql = match case.below(5) {
            0 => format!("DROP TRIGGER {name}"),
            1 => format!(
                "DROP TRIGGER {name}; CREATE TRIGGER {name} BEFORE DELETE ON events BEGIN SELECT 1; END"
            ),
            2 => "CREATE TABLE notes (text TEXT)".to_owned(),
            3 => "CREATE INDEX by_stream ON events (stream)".to_owned(),
            _ => "CREATE TRIGGER more AFTER INSERT ON events BEGIN SELECT 1; END".to_owned(),
        };
        Some((Verdict::GuardsMissing, None))
    }),
    ("an outcome forged, hashed anew", |case| {
        case.full = true;
        let kinds = [51, 41, 40, 61, 31, 60, 12, 14];
        let kind = kinds[case.below(kinds.len())];
        let at = case.find_kind(kind);
        let forged = forge(case.event(at))?;
        let seq = match forged {
            // A day's key and what is taken as given are those of the whole command.
            Event::CommitmentPublished(_) => case.rows[case.command_of(at)].seq,
            _ => case.rows[at].seq,
        };
        case.put(at, &forged);
        case.rehash();
        Some((Verdict::OutcomeMismatch, Some(seq)))
    }),
    ("a command forged or its hash changed, hashed anew", |case| {
        case.full = true;
        let at = match case.below(2) {
            0 => case.find(|row| row.command[0] == 0),
            _ => case.find_kind(50),
        };
        match case.event(at) {
            Event::BetPlaced(mut bet) => {
                bet.amount = Coins::clamped(bet.amount.get() + 1);
                case.put(at, &Event::BetPlaced(bet));
            }
            _ => case.rows[at].command[33] ^= 1,
        }
        case.rehash();
        Some((Verdict::OutcomeMismatch, case.seq(case.command_of(at))))
    }),
];

/// Another outcome of the same kind.
fn forge(event: Event) -> Option<Event> {
    Some(match event {
        Event::BetResolved(mut bet) => {
            bet.payout = Coins::clamped(bet.payout.get() + 1);
            Event::BetResolved(bet)
        }
        Event::DayResolved(mut day) => {
            day.score = Score::clamped(day.score.get() + 1);
            Event::DayResolved(day)
        }
        Event::DayOpened(mut day) => {
            day.weather = match day.weather {
                daybook_schema::Weather::Sunny => daybook_schema::Weather::Stormy,
                _ => daybook_schema::Weather::Sunny,
            };
            Event::DayOpened(day)
        }
        Event::WeekEvaluated(mut week) => {
            week.score = Score::clamped(week.score.get() + 1);
            Event::WeekEvaluated(week)
        }
        Event::SeasonCompleted(mut season) => {
            season.final_score = Score::clamped(season.final_score.get() + 1);
            Event::SeasonCompleted(season)
        }
        Event::TriggerEarned(mut trigger) => {
            trigger.trigger_type = daybook_schema::Trigger::SimulinSync;
            Event::TriggerEarned(trigger)
        }
        Event::SessionStarted(mut session) => {
            session.session_number = daybook_schema::SessionNumber::new(7).unwrap();
            Event::SessionStarted(session)
        }
        Event::CommitmentPublished(mut published) => {
            published.key_id = daybook_schema::KeyId::new([7; 8]);
            Event::CommitmentPublished(published)
        }
        _ => return None,
    })
}

#[test]
fn what_was_tampered_with_is_never_accepted_and_told_as_what_it_is() {
    let victim = Victim::new();
    let foreign = Victim::foreign().rows;
    assert!(foreign.len() >= victim.rows.len());
    let cases = repeats(CASES);
    let mut tried = 0;
    let mut wrong = std::collections::BTreeMap::new();
    for seed in 0.. {
        let (name, mutate) = MUTATIONS[seed as usize % MUTATIONS.len()];
        let mut bytes = [0x7a; 32];
        bytes[..8].copy_from_slice(&u64::to_le_bytes(seed));
        let mut case = Case {
            victim: &victim,
            foreign: &foreign,
            rows: victim.rows.clone(),
            chance: Generator::from_seed(bytes),
            sql: String::new(),
            heads: Vec::new(),
            full: seed % 4 == 0,
        };
        let Some(expected) = mutate(&mut case) else { continue };
        let Case { rows, sql, heads, full, .. } = case;
        let report = victim.verify_changed(
            &rows,
            &sql,
            VerifyOptions { full, heads, ..VerifyOptions::default() },
        );
        let found = (report.verdict, report.first_bad_seq);
        if found != expected {
            let told = wrong.entry(name).or_insert_with(Vec::new);
            told.push(format!("seed {seed}, full {full}: {found:?}, expected {expected:?}"));
        }
        tried += 1;
        if tried == cases {
            break;
        }
    }
    assert!(wrong.is_empty(), "not told as what they are: {wrong:#?}");
}

/// A cut that a snapshot of the longer ledger tells of.
#[test]
fn a_tail_that_was_cut_is_told_by_a_snapshot() {
    let victim = Victim::new();
    make_snapshot(victim.fixture.path()).unwrap();
    let size = usize::from(victim.rows[victim.rows.len() - 1].command[1]);
    let cut = victim.rows.len() - size;
    victim.write(&victim.rows[..cut]);
    let options = VerifyOptions::default();
    let report = verify(victim.fixture.path(), &options, &mut |_, _| {}).unwrap();
    let found = (report.verdict, report.first_bad_seq);
    assert_eq!(found, (Verdict::Truncated, Some(cut as i64 + 1)), "{}", report.detail);
}
