//! A season as a page that a person likes to read.

use daybook_ledger::StoredEvent;
use daybook_schema::events::{BetPlaced, BetResolved, DayResolved, SeasonStarted};
use daybook_schema::{BetType, DayNumber, Event, PerPot, Pot, PotEvent, Threshold, Weather};

use crate::output::{grouped, shown_time};

const BAR_WIDTH: u8 = 20;

/// Collects a day as its events come, and writes it when it resolves.
#[derive(Default)]
struct Page {
    lines: Vec<String>,
    weather: Option<Weather>,
    balance: u64,
    placed: PerPot<Option<BetPlaced>>,
    resolved: PerPot<Option<BetResolved>>,
}

/// Renders the season that these commands make.
pub(crate) fn render(events: &[StoredEvent]) -> String {
    let mut page = Page::default();
    for stored in events {
        page.add(stored);
    }
    page.write_open_day();
    page.lines.join("\n")
}

impl Page {
    fn add(&mut self, stored: &StoredEvent) {
        match &stored.event {
            Event::SeasonStarted(event) => self.start(stored, event),
            Event::DayOpened(event) => self.open_day(event.day_number, event.weather),
            Event::BetPlaced(event) => {
                self.balance = self.balance.saturating_sub(event.amount.get());
                *self.placed.get_mut(event.pot_id) = Some(event.clone());
            }
            Event::BetResolved(event) => {
                self.balance += event.payout.get();
                *self.resolved.get_mut(event.pot_id) = Some(event.clone());
            }
            Event::DayResolved(event) => self.resolve_day(event),
            other => self.note(stored, other),
        }
    }

    fn note(&mut self, stored: &StoredEvent, event: &Event) {
        let line = match event {
            Event::TriggerEarned(event) => format!("    ★ {}", event.trigger_type),
            Event::SimulinXpGained(event) => {
                format!(
                    "    ♥ companion +{} XP, {} in all",
                    event.gained,
                    grouped(event.bond_xp.get())
                )
            }
            Event::SimulinLevelReached(event) => {
                format!("    ♥ companion reached level {}", event.bond_level)
            }
            Event::WeekEvaluated(event) => format!(
                "  Week {} · hand {} ×{} · week's score {}",
                event.week_number,
                event.hand,
                event.multiplier,
                grouped(event.score.get())
            ),
            Event::JackpotPaid(event) => {
                self.balance += event.amount.get();
                format!("  The jackpot pays {} coins", grouped(event.amount.get()))
            }
            Event::StipendGranted(event) => {
                self.balance += event.amount.get();
                format!("    stipend of {} coins", event.amount)
            }
            Event::SuspicionFlagged(event) => {
                format!("    ! suspicion on day {}: {}", event.day_number, event.code)
            }
            Event::SeasonCompleted(event) => format!(
                "\nCompleted {} with {} coins · final score {}",
                shown_time(stored.header.recorded_at),
                grouped(event.coins.get()),
                grouped(event.final_score.get())
            ),
            Event::SeasonAbandoned(event) => {
                format!(
                    "\nAbandoned {} with {} coins",
                    shown_time(stored.header.recorded_at),
                    event.coins
                )
            }
            Event::SeasonExpired(event) => {
                format!(
                    "\nExpired {} with {} coins",
                    shown_time(stored.header.recorded_at),
                    event.coins
                )
            }
            _ => return,
        };
        self.lines.push(line);
    }

    fn start(&mut self, stored: &StoredEvent, event: &SeasonStarted) {
        self.balance = event.coins.get();
        let companion = event.companion.map_or_else(
            || "no companion".to_owned(),
            |companion| {
                let path = companion.path.map_or(String::new(), |path| format!(", {path}"));
                format!("companion {} ({}{path})", companion.simulin_id, companion.species)
            },
        );
        self.lines.push(format!("Season {}", stored.header.stream.as_season()));
        self.lines.push(format!(
            "season {} of {} · ruleset {} · {companion}",
            event.season_number, event.user_id, event.ruleset
        ));
        self.lines.push(format!(
            "Started {} with {} coins, committed to {} by event {}",
            shown_time(stored.header.recorded_at),
            event.coins,
            event.commitment,
            event.commitment_seq
        ));
    }

    fn open_day(&mut self, day: DayNumber, weather: Weather) {
        self.weather = Some(weather);
        self.placed = PerPot::default();
        self.resolved = PerPot::default();
        if day.index_in_week() == 0 {
            self.lines.push(format!("\n── Week {} {}", day.week(), "─".repeat(60)));
        }
        self.lines.push(format!(
            "\n  Day {day} · {} · {} · {} coins",
            day.phase(),
            shown_weather(weather),
            grouped(self.balance)
        ));
    }

    fn resolve_day(&mut self, event: &DayResolved) {
        for &pot in Pot::ALL {
            let level = event.pot_levels.get(pot).get();
            let drawn = match event.pot_events.get(pot) {
                PotEvent::None => "",
                PotEvent::Boon => "boon",
                PotEvent::Bane => "bane",
                PotEvent::Windfall => "windfall",
            };
            let line = format!(
                "    {pot:<6} {} {level:>3}  {drawn:<8}  {}",
                bar(level),
                shown_bet(self.placed.get(pot).as_ref(), self.resolved.get(pot).as_ref())
            );
            self.lines.push(line.trim_end().to_owned());
        }
        for trouble in event.troubles.iter() {
            let outcome = if trouble.cleared { "cleared" } else { "not cleared" };
            self.lines.push(format!("    ! {} {} {outcome}", trouble.kind, trouble.severity));
        }
        self.lines.push(format!(
            "    day's score {}, {} coins",
            event.score,
            grouped(self.balance)
        ));
        self.placed = PerPot::default();
    }

    /// The bets of a day that has not resolved.
    fn write_open_day(&mut self) {
        for (pot, placed) in self.placed.iter() {
            if let Some(bet) = placed {
                self.lines
                    .push(format!("    {pot:<6} {} of {}, unresolved", bet.bet_type, bet.amount));
            }
        }
    }
}

fn bar(level: u8) -> String {
    let full = (u16::from(level) * u16::from(BAR_WIDTH)).div_ceil(100);
    let full = usize::from(full);
    format!("{}{}", "█".repeat(full), "░".repeat(usize::from(BAR_WIDTH) - full))
}

fn shown_weather(weather: Weather) -> String {
    let sign = match weather {
        Weather::Sunny => '☀',
        Weather::Cloudy => '☁',
        Weather::Rainy => '☂',
        Weather::Stormy => '☇',
    };
    format!("{sign} {weather}")
}

fn shown_bet(placed: Option<&BetPlaced>, resolved: Option<&BetResolved>) -> String {
    let (Some(placed), Some(resolved)) = (placed, resolved) else { return String::new() };
    if placed.bet_type == BetType::Fold {
        return "fold".to_owned();
    }
    let stake = format!("{} {}", placed.bet_type, placed.amount);
    match resolved.threshold {
        Some(Threshold::Fifty) => format!("{stake} won {} at 50", resolved.payout),
        Some(Threshold::Eighty) => format!("{stake} won {} at 80", resolved.payout),
        Some(Threshold::Hundred) => format!("{stake} won {} at 100", resolved.payout),
        None => format!("{stake} lost"),
    }
}
