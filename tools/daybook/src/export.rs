//! `daybook export`, and `verify --export`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Result, bail};
use daybook_export::{Checked, Export, MANIFEST, Manifest, Selection, check, going_on};
use daybook_ledger::Reader;
use daybook_schema::Seq;
use serde::Serialize;

use crate::Outcome;
use crate::arguments::export::ExportArguments;
use crate::output::{grouped, progress_bar, table, write_json, write_line};

#[derive(Serialize)]
struct ExportedJson<'a> {
    manifest: String,
    files: usize,
    rows: &'a BTreeMap<String, u64>,
    until_seq: u64,
    until_hash: String,
}

#[derive(Serialize)]
struct CheckedJson<'a> {
    verdict: &'static str,
    files: usize,
    until_seq: u64,
    until_hash: String,
    differences: &'a [String],
}

pub(crate) fn run(arguments: &ExportArguments) -> Result<Outcome> {
    let reader = Reader::open(&arguments.data.data)?;
    let selection = match &arguments.since {
        Some(manifest) => {
            let since = going_on(&Manifest::read(manifest)?, &reader)?;
            Selection { until: arguments.until, until_time: arguments.until_time, ..since }
        }
        None => Selection {
            from: arguments.from.unwrap_or(Seq::MIN),
            until: arguments.until,
            from_time: arguments.from_time,
            until_time: arguments.until_time,
            kinds: arguments.kind.iter().copied().collect::<BTreeSet<_>>().into_iter().collect(),
            season: arguments.season,
            user: arguments.user,
        },
    };
    let bar = progress_bar(reader.head()?.seq, "exporting");
    let directory = arguments.out.clone();
    let export = Export { directory, format: arguments.format.into(), selection };
    let manifest = export.run(&reader, &mut |events| bar.inc(events))?;
    bar.finish_and_clear();
    let path = arguments.out.join(MANIFEST);
    match arguments.json.json {
        true => write_json(&ExportedJson {
            manifest: path.display().to_string(),
            files: manifest.files.len(),
            rows: &manifest.rows,
            until_seq: manifest.until.seq,
            until_hash: manifest.until.hash.to_string(),
        })?,
        false => {
            let rows = manifest.rows.iter();
            let rows = rows.map(|(table, rows)| vec![table.clone(), grouped(i128::from(*rows))]);
            write_line(&format!(
                "{}\n\nup to {}, as `{}` tells",
                table(&["table", "rows"], rows),
                manifest.until,
                path.display()
            ))?;
        }
    }
    Ok(Outcome::Holds)
}

/// Holds an export to the ledger.
pub(crate) fn verify(data: &Path, directory: &Path, as_json: bool) -> Result<Outcome> {
    if !directory.join(MANIFEST).exists() {
        bail!(
            "there is no export in `{}`, it has no {MANIFEST}; name its directory with --export",
            directory.display()
        );
    }
    let reader = Reader::open(data)?;
    let bar = progress_bar(reader.head()?.seq, "verifying");
    let Checked { manifest, differences } =
        check(directory, &reader, &mut |events| bar.inc(events))?;
    bar.finish_and_clear();
    let holds = differences.is_empty();
    let verdict = if holds { "intact" } else { "export_differs" };
    if as_json {
        write_json(&CheckedJson {
            verdict,
            files: manifest.files.len(),
            until_seq: manifest.until.seq,
            until_hash: manifest.until.hash.to_string(),
            differences: &differences,
        })?;
    } else {
        let mut lines = vec![format!(
            "verdict     {verdict}\nfiles       {}\nuntil       {}",
            manifest.files.len(),
            manifest.until
        )];
        lines.extend(differences.iter().map(|difference| format!("differs     {difference}")));
        write_line(&lines.join("\n"))?;
    }
    Ok(if holds { Outcome::Holds } else { Outcome::DoesNotHold })
}
