//! `daybook verify`.

use anyhow::{Result, bail};
use daybook_ledger::keys::{KeysError, load};
use daybook_ledger::{
    KnownHead, Reader, Report, Verdict, VerifyOptions, VerifyingKey, read_newest_head, verify,
};
use daybook_projections::{MigrationError, disputed_heads, known_heads};
use daybook_schema::LedgerId;
use serde::Serialize;

use crate::Outcome;
use crate::arguments::VerifyArguments;
use crate::output::{grouped, note, progress_bar, write_json, write_line};

#[derive(Serialize)]
struct ReportJson {
    verdict: &'static str,
    ledger_id: Option<String>,
    game: Option<&'static str>,
    is_demo: Option<bool>,
    held_to: Vec<HeadJson>,
    accepted_losses: Vec<AcceptedLossJson>,
    disputed_positions: Vec<HeadJson>,
    events: u64,
    head_seq: u64,
    head_hash: String,
    first_bad_seq: Option<i64>,
    detail: String,
    state_hash: Option<String>,
    seconds: f64,
    unrevealed_seasons: Vec<UnrevealedJson>,
}

#[derive(Serialize)]
struct HeadJson {
    head_seq: u64,
    head_hash: String,
    source: String,
}

#[derive(Serialize)]
struct AcceptedLossJson {
    #[serde(flatten)]
    head: HeadJson,
    accepted_at_seq: u64,
}

#[derive(Serialize)]
struct UnrevealedJson {
    season_id: String,
    seq: u64,
}

pub(crate) fn run(arguments: &VerifyArguments) -> Result<Outcome> {
    if let Some(directory) = &arguments.export {
        return crate::export::verify(&arguments.data.data, directory, arguments.json.json);
    }
    let bar = progress_bar(0, "verifying");
    let heads = arguments.head.iter().copied().map(KnownHead::from).collect();
    let Witnesses { heads: witnesses, disputed, unread } = witnesses(arguments)?;
    let options =
        VerifyOptions { full: arguments.full, heads, witnesses, ..VerifyOptions::default() };
    let report = verify(&arguments.data.data, &options, &mut |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    })?;
    bar.finish_and_clear();
    if arguments.json.json {
        write_json(&to_json(&report, &disputed))?;
    } else {
        write_line(&to_text(&report, &disputed, arguments.full))?;
    }
    match (report.verdict, unread) {
        (Verdict::Intact, None) => Ok(Outcome::Holds),
        (Verdict::Intact, Some(error)) => {
            Err(error.context("the ledger was not held to the positions of read models"))
        }
        _ => Ok(Outcome::DoesNotHold),
    }
}

/// What a ledger is held to beside the heads that were named.
#[derive(Default)]
struct Witnesses {
    heads: Vec<KnownHead>,
    /// The positions that were forgotten.
    disputed: Vec<KnownHead>,
    /// Why some could not be looked at: their silence would say that nothing was lost.
    unread: Option<anyhow::Error>,
}

/// What else tells of the ledger's events: the signed newest head and the positions of read models.
fn witnesses(arguments: &VerifyArguments) -> Result<Witnesses> {
    // What is no ledger is told by the verification itself.
    let Ok(reader) = Reader::open(&arguments.data.data) else { return Ok(Default::default()) };
    let ledger_id = reader.genesis().ledger_id;
    drop(reader);
    let mut heads: Vec<KnownHead> = signed_head(arguments, ledger_id)?.into_iter().collect();
    let is_named = arguments.database.database_url.is_some();
    let game_db = match arguments.database.path(&arguments.data.data) {
        Ok(path) => path,
        Err(error) if is_named => return Err(error),
        // There could be none in such a directory.
        Err(_) => return Ok(Witnesses { heads, ..Witnesses::default() }),
    };
    let looked = crate::runtime()?.block_on(async {
        let known = known_heads(&game_db, ledger_id).await?;
        Ok::<_, MigrationError>((known, disputed_heads(&game_db).await?))
    });
    match looked {
        Ok(_) if is_named && !game_db.exists() => bail!(
            "there is no `{}`, which DATABASE_URL names: correct it, or unset it to look at game.db in the data \
             directory",
            game_db.display()
        ),
        Ok((known, disputed)) => {
            heads.extend(known);
            Ok(Witnesses { heads, disputed, unread: None })
        }
        Err(error) if is_named => Err(error.into()),
        Err(error) => Ok(Witnesses { heads, unread: Some(error.into()), ..Witnesses::default() }),
    }
}

/// The signed newest head, where the key that signed it is known.
fn signed_head(arguments: &VerifyArguments, ledger_id: LedgerId) -> Result<Option<KnownHead>> {
    let Some(key) = verifying_key(arguments)? else { return Ok(None) };
    let directory = arguments.keys.directory(&arguments.data.data);
    let signed = read_newest_head(&directory, ledger_id, &key)?;
    if signed.is_none() {
        note(&format!(
            "no signed newest head is looked at: none of {ledger_id} lies in `{}`",
            directory.display()
        ));
    }
    Ok(signed)
}

/// The key that the newest head is signed with: the one that was given, or that of the keys
/// directory.
fn verifying_key(arguments: &VerifyArguments) -> Result<Option<VerifyingKey>> {
    if let Some(key) = arguments.verifying_key {
        return Ok(Some(key));
    }
    match load(&arguments.keys.directory(&arguments.data.data)) {
        Ok(keys) => Ok(Some(keys.verifying_key)),
        Err(KeysError::Missing { path }) if arguments.keys.keys.is_none() => {
            let path = path.display();
            note(&format!(
                "no signed newest head is looked at: no keys at `{path}`; --keys names them"
            ));
            Ok(None)
        }
        // Whoever has no right to the keys verifies without them, unless they were asked for.
        Err(error) if arguments.keys.keys.is_none() => {
            let error = crate::in_one_line(&error.into());
            note(&format!(
                "the signed newest head is not looked at: {error}; --verifying-key reads it without them"
            ));
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

fn to_json(report: &Report, disputed: &[KnownHead]) -> ReportJson {
    ReportJson {
        verdict: report.verdict.as_str(),
        ledger_id: report.genesis.map(|genesis| genesis.ledger_id.to_string()),
        game: report.genesis.map(|genesis| genesis.game.as_str()),
        is_demo: report.genesis.map(|genesis| genesis.is_demo),
        held_to: report.held_to.iter().map(head_json).collect(),
        accepted_losses: report
            .accepted_losses
            .iter()
            .map(|(known, at)| AcceptedLossJson {
                accepted_at_seq: at.get(),
                head: head_json(known),
            })
            .collect(),
        disputed_positions: disputed.iter().map(head_json).collect(),
        events: report.events,
        head_seq: report.head.seq,
        head_hash: report.head.hash.to_string(),
        first_bad_seq: report.first_bad_seq,
        detail: report.detail.clone(),
        state_hash: report.state_hash.map(|hash| hash.to_string()),
        seconds: report.duration.as_secs_f64(),
        unrevealed_seasons: report
            .unrevealed
            .iter()
            .map(|season| UnrevealedJson {
                season_id: season.season_id.to_string(),
                seq: season.seq.get(),
            })
            .collect(),
    }
}

fn head_json(known: &KnownHead) -> HeadJson {
    HeadJson {
        head_seq: known.head.seq,
        head_hash: known.head.hash.to_string(),
        source: known.source.clone(),
    }
}

/// The report as a person reads it.
pub(crate) fn to_text(report: &Report, disputed: &[KnownHead], full: bool) -> String {
    let mut lines = vec![match report.first_bad_seq {
        None => format!("verdict     {}", report.verdict.as_str()),
        Some(seq) => format!("verdict     {} at seq {seq}", report.verdict.as_str()),
    }];
    if let Some(genesis) = &report.genesis {
        let whose = if genesis.is_demo { ", a demo's" } else { "" };
        lines.push(format!("ledger      {}{whose}", genesis.ledger_id));
        lines.push(format!("game        {}, format {}", genesis.game, genesis.format.number()));
    }
    if !report.detail.is_empty() {
        lines.push(format!("detail      {}", report.detail));
    }
    let checked = if full {
        "chain, links, guards, every outcome decided again, accounts balanced, file structure"
    } else {
        "chain, links, guards; --full decides every outcome again"
    };
    let seconds = report.duration.as_secs_f64();
    lines.push(format!("checked     {checked}"));
    lines.push(format!("events      {} in {seconds:.2} s", grouped(report.events)));
    lines.push(format!("head        {}", report.head));
    let nothing = "no head: that events at its end were taken away would not be seen".to_owned();
    let mut held_to: Vec<String> = report.held_to.iter().map(ToString::to_string).collect();
    let is_held_to_nothing = held_to.is_empty() && report.verdict == Verdict::Intact;
    held_to.extend(is_held_to_nothing.then_some(nothing));
    let accepted = report.accepted_losses.iter();
    let accepted = accepted.map(|(known, at)| format!("{known}, at seq {at}")).collect();
    let disputed = disputed.iter().map(ToString::to_string).collect();
    for (label, heads) in [("held to", held_to), ("loss known", accepted), ("disputed", disputed)] {
        let labels = std::iter::once(label).chain(std::iter::repeat(""));
        lines.extend(labels.zip(heads).map(|(label, head)| format!("{label:<12}{head}")));
    }
    if let Some(hash) = report.state_hash {
        lines.push(format!("state hash  {hash}"));
    }
    if report.unrevealed_count > 0 {
        lines.push(format!(
            "unrevealed  {} seasons ended without their secret (a season key was lost)",
            report.unrevealed_count
        ));
        let listed = report.unrevealed.iter();
        lines.extend(
            listed.map(|season| format!("            {} at seq {}", season.season_id, season.seq)),
        );
    }
    lines.join("\n")
}
