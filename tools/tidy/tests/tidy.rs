//! Guards the house: which crate may know which, how long files and functions are, and which words
//! mean that something is unfinished.
#![expect(clippy::unwrap_used, reason = "a check that meets the unexpected stops")]

use std::path::{Path, PathBuf};
use std::process::Command;

/// Which of our crates each may depend on: schema ← simulator ← ledger ← projections ← api
/// and tools.
const ALLOWED: [(&str, &[&str]); 13] = [
    ("daybook-schema", &[]),
    ("daybook-monitor", &[]),
    ("daybook-simulator", &["daybook-schema"]),
    ("daybook-ledger", &["daybook-schema", "daybook-simulator", "daybook-monitor"]),
    ("daybook-export", &["daybook-schema", "daybook-ledger", "daybook-bots"]),
    (
        "daybook-projections",
        // The bots play the ledgers of its tests.
        &[
            "daybook-schema",
            "daybook-simulator",
            "daybook-monitor",
            "daybook-ledger",
            "daybook-bots",
        ],
    ),
    (
        "daybook-api",
        &[
            "daybook-schema",
            "daybook-simulator",
            "daybook-monitor",
            "daybook-ledger",
            "daybook-projections",
        ],
    ),
    (
        "daybook-backup",
        &[
            "daybook-schema",
            "daybook-monitor",
            "daybook-ledger",
            "daybook-projections",
            "daybook-api",
            "daybook-simulator",
        ],
    ),
    ("daybook-bots", &["daybook-schema", "daybook-simulator", "daybook-ledger"]),
    (
        "daybook",
        &[
            "daybook-schema",
            "daybook-simulator",
            "daybook-monitor",
            "daybook-ledger",
            "daybook-projections",
            "daybook-api",
            "daybook-bots",
            "daybook-export",
            "daybook-backup",
        ],
    ),
    (
        "daybook-benches",
        &[
            "daybook-schema",
            "daybook-simulator",
            "daybook-monitor",
            "daybook-ledger",
            "daybook-projections",
            "daybook-api",
            "daybook-bots",
            "daybook-export",
        ],
    ),
    ("daybook-fuzz", &["daybook-schema", "daybook-simulator", "daybook-ledger"]),
    ("daybook-tidy", &[]),
];

const FILE_LINES_MAX: usize = 500;
const TEST_FILE_LINES_MAX: usize = 600;
const FUNCTION_LINES_MAX: usize = 70;
const DOCUMENT_LINE_MAX: usize = 100;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// The files that are part of the project, by their endings.
fn files(endings: &[&str]) -> Vec<PathBuf> {
    fn collect(directory: &Path, endings: &[&str], found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                if !["target", ".git", "daybook-data", "node_modules"].contains(&name.as_str()) {
                    collect(&path, endings, found);
                }
            } else if endings.iter().any(|ending| name.ends_with(ending)) {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    collect(&root(), endings, &mut found);
    assert!(!found.is_empty());
    found
}

#[test]
fn dependencies_point_one_way() {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version", "1", "--offline"])
        .current_dir(root())
        .output()
        .unwrap();
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata.get("packages").and_then(serde_json::Value::as_array).unwrap();
    assert_eq!(packages.len(), ALLOWED.len(), "every crate of ours has its row");
    for package in packages {
        let text = |value: &serde_json::Value, key: &str| -> String {
            value.get(key).and_then(serde_json::Value::as_str).unwrap_or_default().to_owned()
        };
        let name = text(package, "name");
        let Some((_, allowed)) = ALLOWED.iter().find(|(known, _)| *known == name) else {
            panic!("{name} has no row")
        };
        let dependencies = package.get("dependencies").and_then(serde_json::Value::as_array);
        for dependency in dependencies.unwrap() {
            let other = text(dependency, "name");
            let ours = other.starts_with("daybook");
            assert!(!ours || allowed.contains(&other.as_str()), "{name} may not know {other}");
        }
    }
}

#[test]
fn files_are_short_enough_to_read() {
    for path in files(&[".rs"]) {
        let lines = std::fs::read_to_string(&path).unwrap().lines().count();
        let is_test = path.components().any(|part| part.as_os_str() == "tests");
        let most = if is_test { TEST_FILE_LINES_MAX } else { FILE_LINES_MAX };
        assert!(lines <= most, "{} has {lines} lines, at most {most}", path.display());
    }
}

#[test]
fn functions_are_short_enough_to_read() {
    let is_test = |path: &PathBuf| path.components().any(|part| part.as_os_str() == "tests");
    for path in files(&[".rs"]).into_iter().filter(|path| !is_test(path)) {
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        for (start, line) in lines.iter().enumerate() {
            let trimmed = line.trim_start();
            let is_function = ["fn ", "pub fn ", "pub(crate) fn ", "pub(super) fn ", "const fn "]
                .iter()
                .chain(&["pub const fn ", "async fn ", "pub(super) const fn "])
                .any(|opening| trimmed.starts_with(opening));
            if !is_function || trimmed.ends_with(';') || trimmed.ends_with('}') {
                continue;
            }
            // Formatted code: the function's closing brace stands at the function's own depth.
            let closing = format!("{}}}", " ".repeat(line.len() - trimmed.len()));
            let body = lines.iter().skip(start).take_while(|line| **line != closing).count() + 1;
            let most = FUNCTION_LINES_MAX;
            assert!(body <= most, "{}:{} has {body} lines", path.display(), start + 1);
        }
    }
}

#[test]
fn no_word_says_that_something_is_unfinished() {
    // Written apart, so that this file does not hold them.
    let banned = ["TO|DO", "FIX|ME", "XX|X", "HA|CK", "todo|!(", "unimplemented|!(", "#[ig|nore"]
        .map(|word| word.replace('|', ""));
    for path in files(&[".rs", ".md", ".toml", ".sh", ".sql", ".yml", "test"]) {
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        for (number, line) in text.lines().enumerate() {
            let found = banned.iter().find(|word| line.contains(word.as_str()));
            assert!(found.is_none(), "{}:{}: {found:?}", path.display(), number + 1);
        }
    }
}

/// Links from one document to another file of the project lead somewhere.
#[test]
fn documents_link_to_files_that_exist() {
    for path in files(&[".md"]) {
        let text = std::fs::read_to_string(&path).unwrap();
        let links = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for link in links {
            let file = link.split('#').next().unwrap_or_default();
            if file.is_empty() || file.contains("://") {
                continue;
            }
            let target = path.parent().unwrap().join(file);
            assert!(target.exists(), "{} links to {link}", path.display());
        }
    }
}

/// Prose is wrapped; tables and what is quoted are as wide as they must be.
#[test]
fn documents_are_wrapped() {
    for path in files(&[".md"]) {
        let text = std::fs::read_to_string(&path).unwrap();
        let mut is_quoted = false;
        for (number, line) in text.lines().enumerate() {
            is_quoted ^= line.trim_start().starts_with("```");
            let is_prose = !is_quoted && !line.starts_with('|') && !line.starts_with("    ");
            let length = line.chars().count();
            let place = format!("{}:{}", path.display(), number + 1);
            assert!(!is_prose || length <= DOCUMENT_LINE_MAX, "{place} has {length} characters");
        }
    }
}
