//! What holds of every manifest that an export writes: its files are those of its tables, its sums
//! are theirs, and they cover what was asked for without a gap.

use std::collections::{BTreeMap, BTreeSet};

use daybook_ledger::{ReadError, Reader};
use daybook_schema::Seq;

use crate::columns::TableName;
use crate::manifest::{Manifest, Selection};
use crate::tables::tables_of;

/// Where a table's file is that begins with a seq.
pub(crate) fn path_of(table: TableName, from: Seq, ending: &str) -> String {
    format!("{}/{from:020}.{ending}", table.as_str())
}

/// The first seq of a selection.
pub(crate) fn first_of(selection: &Selection, reader: &Reader) -> Result<u64, ReadError> {
    let of_time = match selection.from_time {
        Some(time) => reader.first_since(time)?.get(),
        None => 1,
    };
    Ok(selection.from.get().max(of_time))
}

/// The last seq of a selection that there is by now.
pub(crate) fn last_of(selection: &Selection, reader: &Reader) -> Result<u64, ReadError> {
    let newest = reader.head()?.seq;
    let asked = selection.until.map_or(newest, Seq::get);
    let of_time = match selection.until_time {
        Some(time) => reader.first_since(time)?.get() - 1,
        None => newest,
    };
    Ok(newest.min(asked).min(of_time))
}

/// What is wrong with a manifest.
pub(crate) fn faults(manifest: &Manifest, reader: &Reader) -> Result<Vec<String>, ReadError> {
    let genesis = reader.genesis();
    let mut faults = Vec::new();
    let mut holds = |holds: bool, fault: &str| {
        if !holds {
            faults.push(format!("manifest.json: {fault}"));
        }
    };
    let is_ledgers = manifest.game == genesis.game.as_str() && manifest.is_demo == genesis.is_demo;
    holds(is_ledgers, "it tells another game or another kind of ledger");
    let selection = &manifest.selection;
    let begins = first_of(selection, reader)?.saturating_sub(1) == manifest.after.seq;
    holds(begins, "it does not begin where its selection does");
    let ends = (manifest.after.seq..=last_of(selection, reader)?).contains(&manifest.until.seq);
    holds(ends, "it does not end within its selection");
    let tables: BTreeMap<&str, TableName> =
        tables_of(selection).into_iter().map(|table| (table.as_str(), table)).collect();
    let (mut ranges, mut seen) = (BTreeMap::<_, usize>::new(), BTreeSet::new());
    let mut rows: BTreeMap<String, u64> = BTreeMap::new();
    for file in &manifest.files {
        let range = (file.covers_from, file.covers_until);
        let table = tables.get(file.table.as_str());
        let path = table.map(|table| path_of(*table, range.0, manifest.format.ending()));
        let is_own = path.as_ref() == Some(&file.path) && seen.insert((range, &file.table));
        holds(is_own, &format!("`{}` is no file that it can have", file.path));
        *ranges.entry(range).or_default() += 1;
        let sum = rows.entry(file.table.clone()).or_default();
        *sum = sum.saturating_add(file.rows);
    }
    holds(rows == manifest.rows, "its sums of rows are not those of its files");
    let all = ranges.values().next().is_some_and(|files| *files == tables.len());
    holds(all, "its first files are not those of all tables");
    let mut last = manifest.after.seq;
    for (from, until) in ranges.into_keys() {
        holds(
            from.get() == last.saturating_add(1),
            &format!("no file has the events before {from}"),
        );
        last = until.get();
    }
    holds(last == manifest.until.seq, "its files do not go to its end");
    Ok(faults)
}
