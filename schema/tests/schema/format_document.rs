//! Guards: FORMAT.md and the code say the same.

use std::path::Path;

use daybook_schema::{EventKind, LedgerFormat, digest, limits};

fn format_document() -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("FORMAT.md")).unwrap()
}

/// The rows of the table that follows a heading, as their cells.
fn table(document: &str, heading: &str) -> Vec<Vec<String>> {
    let after = document.split_once(heading).unwrap_or_else(|| panic!("no heading {heading}")).1;
    after
        .lines()
        .skip_while(|line| !line.starts_with('|'))
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .map(|line| {
            let cells = line.trim_matches('|').split('|');
            cells.map(|cell| cell.trim().trim_matches('`').to_owned()).collect()
        })
        .collect()
}

#[test]
fn the_table_of_kinds_is_that_of_the_code() {
    let rows = table(&format_document(), "\n## Kinds");
    let documented: Vec<[String; 4]> =
        rows.into_iter().map(|row| std::array::from_fn(|index| row[index].clone())).collect();
    let coded: Vec<[String; 4]> = EventKind::ALL
        .iter()
        .map(|kind| {
            [
                kind.number().to_string(),
                kind.to_string(),
                kind.version().to_string(),
                kind.stream().as_str().to_owned(),
            ]
        })
        .collect();
    assert_eq!(documented, coded);
}

#[test]
fn the_contexts_are_those_of_the_code() {
    let rows = table(&format_document(), "\n## Contexts");
    let documented: Vec<&str> = rows.iter().map(|row| row[0].as_str()).collect();
    let coded: Vec<&str> = digest::ALL.iter().map(|context| context.string()).collect();
    assert_eq!(documented, coded);
}

#[test]
fn the_sql_and_the_numbers_are_those_of_the_code() {
    let document = format_document();
    let newest = LedgerFormat::NEWEST.sql();
    assert!(document.contains(newest.trim_end()), "the SQL is quoted whole");
    let genesis = LedgerFormat::V1.sql().split("\n\n").next().unwrap();
    assert!(document.contains(genesis), "the first format's table is quoted");
    assert!(document.contains(&format!("format {}", LedgerFormat::NEWEST.number())));
    let page = format!("pages of {} bytes", limits::LEDGER_PAGE_BYTES);
    assert!(document.contains(&page), "{page}");
    let payload = format!("at most {} bytes", limits::PAYLOAD_BYTES_MAX);
    assert!(document.contains(&payload), "{payload}");
}

/// Every field of every kind is in the document, in stored order.
#[test]
fn the_fields_of_every_kind_are_documented_in_order() {
    let rows = table(&format_document(), "\n## Kinds");
    for (row, event) in rows.iter().zip(crate::samples::every_kind()) {
        let json = serde_json::to_string(&event).unwrap();
        let documented = row[4].replace('`', "");
        let names: Vec<String> = documented
            .split(',')
            .filter_map(|field| {
                field.split_whitespace().next().map(|name| camel_case(name.trim_end_matches(':')))
            })
            .filter(|name| name != "none")
            .collect();
        let mut rest = json.as_str();
        for name in &names {
            let quoted = format!("\"{name}\":");
            let Some((_, after)) = rest.split_once(&quoted) else {
                panic!("{}: {name} is not in {json}, or out of order", event.kind())
            };
            rest = after;
        }
        let object = serde_json::from_str::<serde_json::Value>(&json).unwrap();
        let fields = object.as_object().unwrap().len();
        assert_eq!(names.len(), fields, "{}: {documented}", event.kind());
    }
}

fn camel_case(name: &str) -> String {
    let mut parts = name.split('_');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| {
        let (head, tail) = part.split_at(1);
        text + &head.to_uppercase() + tail
    })
}
