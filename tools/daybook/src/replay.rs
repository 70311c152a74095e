//! `daybook replay`.

use anyhow::{Result, bail};
use daybook_ledger::{Replayed, StoredEvent, replay};
use daybook_schema::SeasonId;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::Outcome;
use crate::arguments::ReplayArguments;
use crate::output::{grouped, progress_bar, shown_time, table, write_json, write_line};
use crate::season_page;

#[derive(Serialize)]
struct WorldJson {
    head_seq: u64,
    head_hash: String,
    recorded_micros: i64,
    users: usize,
    seasons_in_play: usize,
    accounts: AccountsJson,
    state_hash: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    season_id: Option<SeasonId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    season_events: Option<Vec<Box<RawValue>>>,
}

#[derive(Serialize)]
struct AccountsJson {
    mint_millicoins: i128,
    house_millicoins: i128,
    jackpot_millicoins: i128,
    balances_millicoins: i128,
    escrows_millicoins: i128,
    sum_millicoins: i128,
}

pub(crate) fn run(arguments: &ReplayArguments) -> Result<Outcome> {
    let bar = progress_bar(arguments.until.unwrap_or(0), "replaying");
    let mut commands = SeasonCommands::new(arguments.season);
    let mut count = 0_u64;
    let replayed = replay(&arguments.data.data, arguments.until, |_, stored| {
        commands.see(stored);
        count += 1;
        if count.is_multiple_of(65_536) {
            bar.set_position(count);
        }
    })?;
    bar.finish_and_clear();
    if let Some(until) = arguments.until
        && until > replayed.head.seq
    {
        bail!("the ledger ends at seq {}, --until named {until}", replayed.head.seq);
    }
    if let Some(season_id) = arguments.season
        && commands.kept.is_empty()
    {
        bail!(
            "no season `{season_id}` up to seq {}; `daybook tail --kind season_started` lists them",
            replayed.head.seq
        );
    }
    if arguments.json.json {
        write_json(&to_json(&replayed, &commands)?)?;
    } else if arguments.season.is_some() {
        let page = season_page::render(&commands.kept);
        write_line(&format!("{page}\n\n{}", footer(&replayed)))?;
    } else {
        write_line(&world(&replayed, arguments.accounts))?;
    }
    Ok(Outcome::Holds)
}

/// Keeps the commands that touch a season, whole: a companion's gains lie in the user's stream.
struct SeasonCommands {
    season: Option<SeasonId>,
    command: Vec<StoredEvent>,
    kept: Vec<StoredEvent>,
}

impl SeasonCommands {
    const fn new(season: Option<SeasonId>) -> Self {
        Self { season, command: Vec::new(), kept: Vec::new() }
    }

    fn see(&mut self, stored: &StoredEvent) {
        let Some(season) = self.season else { return };
        self.command.push(stored.clone());
        let part = stored.header.command;
        if part.place + 1 == part.size {
            if self.command.iter().any(|event| event.header.stream == season.into()) {
                self.kept.append(&mut self.command);
            }
            self.command.clear();
        }
    }
}

fn to_json(replayed: &Replayed, commands: &SeasonCommands) -> Result<WorldJson> {
    let accounts = replayed.state.accounts;
    let events = commands
        .kept
        .iter()
        .map(serde_json::value::to_raw_value)
        .collect::<serde_json::Result<Vec<_>>>()?;
    Ok(WorldJson {
        head_seq: replayed.head.seq,
        head_hash: replayed.head.hash.to_string(),
        recorded_micros: replayed.recorded_at.get(),
        users: replayed.state.users.len(),
        seasons_in_play: replayed.state.seasons.len(),
        accounts: AccountsJson {
            mint_millicoins: accounts.mint,
            house_millicoins: accounts.house,
            jackpot_millicoins: accounts.jackpot,
            balances_millicoins: accounts.balances,
            escrows_millicoins: accounts.escrows,
            sum_millicoins: accounts.sum(),
        },
        state_hash: replayed.state_hash().to_string(),
        season_id: commands.season,
        season_events: commands.season.map(|_| events),
    })
}

fn footer(replayed: &Replayed) -> String {
    format!("head            {}\nstate hash      {}", replayed.head, replayed.state_hash())
}

fn world(replayed: &Replayed, with_accounts: bool) -> String {
    let state = &replayed.state;
    let at = shown_time(replayed.recorded_at);
    let mut text = format!(
        "at              {at}\nusers           {}\nseasons in play {}\n{}",
        grouped(state.users.len() as u64),
        grouped(state.seasons.len() as u64),
        footer(replayed),
    );
    if with_accounts {
        text.push_str(&format!("\n\n{}", trial_balance(replayed)));
    }
    text
}

fn trial_balance(replayed: &Replayed) -> String {
    let accounts = replayed.state.accounts;
    let rows = [
        ("mint", accounts.mint),
        ("house", accounts.house),
        ("jackpot", accounts.jackpot),
        ("seasons' balances", accounts.balances),
        ("seasons' escrows", accounts.escrows),
        ("sum", accounts.sum()),
    ];
    let rows = rows.map(|(name, millicoins)| vec![name.to_owned(), grouped(millicoins)]);
    table(&["account", "millicoins"], rows).to_string()
}
