//! Guards: whatever the system's clocks do, time recorded never goes back, play goes on, and the
//! ledger is not carried a year away.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use daybook_ledger::{
    Ledger, NewLedger, OpenError, Options, Reader, Submission, SubmitError, Time, TimeSource,
    Verdict, VerifyOptions, verify,
};
use daybook_schema::commands::ClientSeed;
use daybook_schema::{
    Command, CommandId, SessionEndReason, SessionNumber, UnixMicros, UserId, limits,
};
use daybook_simulator::Keyring;

use crate::fixture::{START, season_key};

const YEAR: i64 = 365 * 86_400 * 1_000_000;
const SECOND: i64 = 1_000_000;

/// Clocks that the test sets.
#[derive(Clone)]
struct Hands(Arc<Mutex<(UnixMicros, Duration)>>);

impl Hands {
    /// Lets the wall clock and the monotonic clock pass so many microseconds.
    fn pass(&self, wall: i64, monotonic: i64) {
        let mut hands = self.0.lock().unwrap();
        hands.0 = hands.0.plus_micros(wall);
        hands.1 += Duration::from_micros(monotonic.unsigned_abs());
    }

    fn wall(&self) -> UnixMicros {
        self.0.lock().unwrap().0
    }
}

impl TimeSource for Hands {
    fn wall(&mut self) -> UnixMicros {
        Self::wall(self)
    }

    fn monotonic(&mut self) -> Duration {
        self.0.lock().unwrap().1
    }
}

fn open(directory: &Path, hands: &Hands) -> Ledger {
    let keys = Keyring::new([season_key()]);
    let time = Time::Source(Box::new(hands.clone()));
    let new = NewLedger { created_at: Some(START), ..NewLedger::random() };
    Ledger::open(Options::new(directory, keys).create(new).time(time)).unwrap()
}

/// Registers somebody, with an id made by a client whose clock is right by the wall clock.
fn register(ledger: &Ledger, at: UnixMicros) -> Result<UnixMicros, SubmitError> {
    let id = CommandId::from_parts(at, *UserId::random().as_bytes().first_chunk().unwrap());
    let command = Command::RegisterUser { user_id: UserId::random() };
    ledger.submit(Submission::new(command).with_id(id))?.wait().map(|accepted| accepted.recorded_at)
}

/// A start with the clock far ahead writes nothing until somebody says that it is so late.
#[test]
fn a_start_with_the_clock_far_ahead_must_be_confirmed() {
    const DAY: i64 = 86_400 * SECOND;
    let directory = tempfile::tempdir().unwrap();
    let hands = Hands(Arc::new(Mutex::new((START, Duration::ZERO))));
    // Empty, it may be as late as it will.
    open(directory.path(), &hands).close().wait().unwrap();
    hands.pass(40 * DAY, 0);
    let ledger = open(directory.path(), &hands);
    let key_id = season_key().key_id();
    let rotate = Submission::new(Command::RotateKey { key_id, compromised: false });
    ledger.submit(rotate).unwrap().wait().unwrap();
    let head = ledger.close().wait().unwrap();
    hands.pass(31 * DAY, 0);
    open(directory.path(), &hands).close().wait().unwrap();
    hands.pass(3_650 * DAY, 0);
    let options = || {
        let time = Time::Source(Box::new(hands.clone()));
        Options::new(directory.path(), Keyring::new([season_key()])).time(time)
    };
    let now = hands.wall();
    let wrong =
        [None, Some(START), Some(now.plus_micros(-2 * DAY)), Some(now.plus_micros(2 * DAY))];
    for about in wrong {
        let options = match about {
            Some(about) => options().accept_clock(about),
            None => options(),
        };
        let error = Ledger::open(options).unwrap_err();
        assert!(matches!(error, OpenError::ClockAhead { wall, .. } if wall == now), "{error}");
        assert_eq!(Reader::open(directory.path()).unwrap().head().unwrap(), head);
    }
    let about = now.plus_micros(DAY / 2);
    let ledger = Ledger::open(options().accept_clock(about)).unwrap();
    assert!(register(&ledger, now).unwrap() >= now);
    ledger.close().wait().unwrap();
}

#[test]
fn jumps_of_the_clock_neither_stop_play_nor_move_the_ledger() {
    let directory = tempfile::tempdir().unwrap();
    let hands = Hands(Arc::new(Mutex::new((START, Duration::ZERO))));
    let mut ledger = open(directory.path(), &hands);
    let key_id = season_key().key_id();
    let rotate = Submission::new(Command::RotateKey { key_id, compromised: false });
    let mut newest = ledger.submit(rotate).unwrap().wait().unwrap().recorded_at;
    let began = newest;
    let mut true_micros = 0;
    // Each step: what the wall clock does, what truly passes, and whether the process starts anew
    // after.
    let steps = [
        (SECOND, SECOND, false),
        (YEAR, SECOND, false),
        (SECOND, SECOND, false),
        (-2 * YEAR, SECOND, false),
        (SECOND, 60 * SECOND, false),
        (0, 0, false),
        (0, 3_600 * SECOND, false),
        (-YEAR, SECOND, true),
        (SECOND, SECOND, true),
        (2 * YEAR, SECOND, false),
    ];
    for (wall, monotonic, is_restarted) in steps {
        hands.pass(wall, monotonic);
        if is_restarted {
            ledger.close().wait().unwrap();
            ledger = open(directory.path(), &hands);
        }
        true_micros += monotonic;
        // A client that takes its id's time from the server's answer, and one that goes by the wall
        // clock.
        let recorded_at = register(&ledger, newest).unwrap();
        assert!(recorded_at >= newest, "time goes back");
        newest = recorded_at;
        match register(&ledger, hands.wall()) {
            Ok(recorded_at) => newest = newest.max(recorded_at),
            // Too far from ledger time; the answer says what the time is.
            Err(SubmitError::Expired { server_time, .. }) => assert!(server_time >= newest),
            Err(error) => panic!("{error}"),
        }
        // At most a twentieth faster than what truly passed.
        let passed = newest.micros_since(began);
        assert!(passed <= true_micros + true_micros / 20 + 1, "{passed} of {true_micros}");
    }
    ledger.close().wait().unwrap();
    let report = verify(directory.path(), &VerifyOptions::default(), &mut |_, _| {}).unwrap();
    assert_eq!(report.verdict, Verdict::Intact, "{}", report.detail);
}

/// The wall clock was ten minutes ahead for a moment, when a client was refused until its ids ran
/// out: the time that it is told for a new id is let in when the clock is right again.
#[test]
fn the_time_that_an_expired_id_is_told_is_let_in() {
    let directory = tempfile::tempdir().unwrap();
    // Later than the ledger's own beginning, which is now.
    let begin = START.plus_micros(10 * YEAR);
    let hands = Hands(Arc::new(Mutex::new((begin, Duration::ZERO))));
    let ledger = open(directory.path(), &hands);
    let key_id = season_key().key_id();
    let rotate = Submission::new(Command::RotateKey { key_id, compromised: false });
    ledger.submit(rotate).unwrap().wait().unwrap();
    register(&ledger, begin).unwrap();
    let user_id = ledger.query(|state| state.users.ordered()[0].0).unwrap().wait().unwrap();
    hands.pass(600 * SECOND, 0);
    let send = |at, random, command| {
        let submission = Submission::new(command).with_id(CommandId::from_parts(at, [random; 10]));
        ledger.submit(submission).unwrap().wait()
    };
    let session_number = SessionNumber::new(9).unwrap();
    let reason = SessionEndReason::Logout;
    for number in 0..=limits::REFUSED_IDS_PER_SCOPE_MAX as u8 {
        let at = hands.wall().plus_micros(50 * SECOND + i64::from(number) * 1_000);
        send(at, number, Command::EndSession { user_id, session_number, reason }).unwrap_err();
    }
    hands.pass(-600 * SECOND, 0);
    let expired = send(hands.wall(), 200, Command::StartSession { user_id }).unwrap_err();
    let SubmitError::Expired { new_id_time, .. } = expired else { panic!("{expired}") };
    send(new_id_time, 201, Command::StartSession { user_id }).unwrap();
}

/// A player may have been kept away by the same outage as the engine: for an hour after a start no
/// idle season is expired. An audit knows of no start, and asks for none.
#[test]
fn no_idle_season_expires_in_the_first_hour_of_an_engine() {
    let directory = tempfile::tempdir().unwrap();
    let hands = Hands(Arc::new(Mutex::new((START, Duration::ZERO))));
    let ledger = open(directory.path(), &hands);
    let submit = |ledger: &Ledger, command| ledger.submit(Submission::new(command)).unwrap().wait();
    let rotate = Command::RotateKey { key_id: season_key().key_id(), compromised: false };
    submit(&ledger, rotate).unwrap();
    let user_id = UserId::random();
    submit(&ledger, Command::RegisterUser { user_id }).unwrap();
    let next =
        move |state: &daybook_simulator::State| state.users.get(&user_id).unwrap().next_commitment;
    let commitment = ledger.query(next).unwrap().wait().unwrap().unwrap().commitment;
    let client_seed = ClientSeed::from_seed(&[1; 32]);
    let start = Command::StartSeason { user_id, commitment, client_seed, simulin_id: None };
    let season_id = submit(&ledger, start).unwrap().events[0].stream.as_season();
    ledger.close().wait().unwrap();

    let idle = limits::SEASON_IDLE_MICROS_MAX + SECOND;
    hands.pass(idle, idle);
    let ledger = open(directory.path(), &hands);
    let expire = Command::ExpireSeason { user_id, season_id };
    let Err(SubmitError::Rejected { rejections: refused, .. }) = submit(&ledger, expire.clone())
    else {
        panic!()
    };
    assert_eq!(refused.first().code(), "SEASON_NOT_IDLE", "{refused}");
    hands.pass(limits::EXPIRY_GRACE_MICROS, limits::EXPIRY_GRACE_MICROS);
    submit(&ledger, expire).unwrap();
    ledger.close().wait().unwrap();
    let options = VerifyOptions { full: true, ..VerifyOptions::default() };
    let report = verify(directory.path(), &options, &mut |_, _| {}).unwrap();
    assert_eq!(report.verdict, Verdict::Intact, "{}", report.detail);
}
