//! `daybook verify`.

use anyhow::Result;
use daybook_ledger::keys::{KeysError, load};
use daybook_ledger::{KnownHead, Reader, Report, Verdict, VerifyOptions, verify};
use serde::Serialize;

use crate::Outcome;
use crate::arguments::VerifyArguments;
use crate::output::{grouped, note, progress_bar, write_json, write_line};

#[derive(Serialize)]
struct ReportJson {
    verdict: &'static str,
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
struct UnrevealedJson {
    season_id: String,
    seq: u64,
}

pub(crate) fn run(arguments: &VerifyArguments) -> Result<Outcome> {
    let bar = progress_bar(0, "verifying");
    let heads = known_heads(arguments)?;
    let options = VerifyOptions { full: arguments.full, heads, ..VerifyOptions::default() };
    let report = verify(&arguments.data.data, &options, &mut |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    })?;
    bar.finish_and_clear();
    if arguments.json.json {
        write_json(&to_json(&report))?;
    } else {
        write_line(&to_text(&report, arguments.full))?;
    }
    Ok(match report.verdict {
        Verdict::Intact => Outcome::Holds,
        _ => Outcome::DoesNotHold,
    })
}

/// The heads that were given, and the signed one where the keys are at hand.
fn known_heads(arguments: &VerifyArguments) -> Result<Vec<KnownHead>> {
    let mut heads: Vec<KnownHead> = arguments.head.iter().copied().map(KnownHead::from).collect();
    // What is no ledger is told by the verification itself.
    let Ok(reader) = Reader::open(&arguments.data.data) else { return Ok(heads) };
    let keys = match load(&arguments.keys.directory(&arguments.data.data)) {
        Ok(keys) => Some(keys),
        Err(KeysError::Missing { path }) if arguments.keys.keys.is_none() => {
            let path = path.display();
            note(&format!(
                "no signed newest head is looked at: no keys at `{path}`; --keys names them"
            ));
            None
        }
        // Whoever has no right to the keys verifies without them, unless they were asked for.
        Err(error) if arguments.keys.keys.is_none() => {
            let error = crate::in_one_line(&error.into());
            note(&format!("the signed newest head is not looked at: {error}"));
            None
        }
        Err(error) => return Err(error.into()),
    };
    if let Some(keys) = keys {
        let ledger_id = reader.genesis().ledger_id;
        if let Some(head) = keys.newest_head.read(ledger_id)? {
            let source = keys.newest_head.path(ledger_id).display().to_string();
            heads.push(KnownHead { head, source });
        }
    }
    Ok(heads)
}

fn to_json(report: &Report) -> ReportJson {
    ReportJson {
        verdict: report.verdict.as_str(),
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

/// The report as a person reads it.
pub(crate) fn to_text(report: &Report, full: bool) -> String {
    let mut lines = vec![match report.first_bad_seq {
        None => format!("verdict     {}", report.verdict.as_str()),
        Some(seq) => format!("verdict     {} at seq {seq}", report.verdict.as_str()),
    }];
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
