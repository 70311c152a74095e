//! What a bot's client tells of itself: telemetry, as a browser's would.

use daybook_ledger::Accepted;
use daybook_schema::telemetry::{GameTelemetryEvent, TutorialAction};
use daybook_schema::{CommandId, Event, SeasonNumber, SessionEndReason, UnixMicros, UserId};
use daybook_simulator::Generator;

use crate::bot::new_id;

/// An event of a bot's client.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    /// Its id.
    pub event_id: CommandId,
    /// When it was.
    pub at: UnixMicros,
    /// The telemetry session.
    pub session_id: CommandId,
    /// Its place among its session's.
    pub sequence: i64,
    /// Whose client it is.
    pub user_id: UserId,
    /// What it tells.
    pub event: GameTelemetryEvent,
}

/// A telemetry session: begun anew on each UTC day.
struct Session {
    id: CommandId,
    began_at: UnixMicros,
    sequence: i64,
    days_played: u64,
}

/// A bot's client. Its randomness is its own, so that what it tells changes nothing of play.
pub(crate) struct Client {
    generator: Generator,
    user_id: UserId,
    session: Option<Session>,
    is_new: bool,
    season_number: Option<SeasonNumber>,
    triggers_today: u64,
}

impl Client {
    pub(crate) fn new(generator: Generator, user_id: UserId) -> Self {
        let (session, season_number) = (None, None);
        Self { generator, user_id, session, is_new: true, season_number, triggers_today: 0 }
    }

    /// What is told when a command was accepted: the first of a UTC day begins a session.
    pub(crate) fn learn(&mut self, accepted: &Accepted, tell: &mut dyn FnMut(Told)) {
        let at = accepted.recorded_at;
        if self.session.as_ref().is_none_or(|it| it.began_at.utc_day() != at.utc_day()) {
            let id = new_id(&mut self.generator, at);
            self.session = Some(Session { id, began_at: at, sequence: 0, days_played: 0 });
            let referrer = (self.generator.below(3) == 0).then(|| "https://farm.example/".into());
            self.tell(at, GameTelemetryEvent::SessionStart { referrer }, tell);
            if std::mem::take(&mut self.is_new) {
                let step_id = "welcome".into();
                let action = TutorialAction::Completed;
                self.tell(at, GameTelemetryEvent::TutorialStep { step_id, action }, tell);
            }
        }
        for new in &accepted.events {
            if let Some(event) = self.shown(&new.event, at) {
                self.tell(at, event, tell);
            }
        }
    }

    fn tell(&mut self, at: UnixMicros, event: GameTelemetryEvent, tell: &mut dyn FnMut(Told)) {
        let event_id = new_id(&mut self.generator, at);
        let Some(session) = &mut self.session else { return };
        let (session_id, sequence) = (session.id, session.sequence);
        session.sequence += 1;
        tell(Told { event_id, at, session_id, sequence, user_id: self.user_id, event });
    }

    /// What a client tells of an event that it was answered with.
    fn shown(&mut self, event: &Event, at: UnixMicros) -> Option<GameTelemetryEvent> {
        Some(match event {
            Event::SeasonStarted(started) => {
                self.season_number = Some(started.season_number);
                GameTelemetryEvent::SeasonStart {
                    season_number: started.season_number.get().into(),
                }
            }
            Event::SeasonCompleted(completed) => GameTelemetryEvent::SeasonComplete {
                season_number: self.season_number?.get().into(),
                final_score: completed.final_score.get().into(),
                days_played: 28.into(),
            },
            Event::DayOpened(opened) => GameTelemetryEvent::DayStart {
                day_number: opened.day_number.get().into(),
                phase: opened.day_number.phase().as_str().into(),
            },
            Event::DayResolved(resolved) => {
                let session = self.session.as_mut();
                session.into_iter().for_each(|session| session.days_played += 1);
                GameTelemetryEvent::DayComplete {
                    day_number: resolved.day_number.get().into(),
                    triggers_earned: std::mem::take(&mut self.triggers_today).into(),
                }
            }
            Event::BetPlaced(placed) => GameTelemetryEvent::BetPlaced {
                pot_id: placed.pot_id.as_str().into(),
                bet_type: placed.bet_type.as_str().into(),
                amount: placed.amount.get().into(),
            },
            Event::BetResolved(resolved) => GameTelemetryEvent::BetResolved {
                pot_id: resolved.pot_id.as_str().into(),
                won: resolved.threshold.is_some(),
                payout: resolved.payout.get().into(),
            },
            Event::TriggerEarned(earned) => {
                self.triggers_today += 1;
                GameTelemetryEvent::TriggerEarned {
                    trigger_type: earned.trigger_type.as_str().into(),
                    day_number: earned.day_number.get().into(),
                }
            }
            Event::WeekEvaluated(week) => GameTelemetryEvent::ComboEvaluated {
                hand_type: week.hand.as_str().into(),
                multiplier: week.multiplier.get().into(),
            },
            Event::SimulinLevelReached(reached) => GameTelemetryEvent::SimulinBond {
                simulin_id: reached.simulin_id.to_string().into(),
                new_level: reached.bond_level.get().into(),
            },
            Event::SessionEnded(ended) if ended.reason == SessionEndReason::Logout => {
                let session = self.session.as_ref()?;
                let micros = u64::try_from(at.micros_since(session.began_at)).unwrap_or(0);
                GameTelemetryEvent::SessionEnd {
                    duration_ms: (micros / 1_000).into(),
                    days_played: session.days_played.into(),
                }
            }
            _ => return None,
        })
    }
}
