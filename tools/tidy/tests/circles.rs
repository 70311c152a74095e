//! Guards the house: within a crate files use one another in one direction, so that each can be
//! read after those that it rests on.
#![expect(clippy::unwrap_used, reason = "a check that meets the unexpected stops")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

const SOURCES: [&str; 9] = [
    "schema/src",
    "engine/simulator/src",
    "engine/ledger/src",
    "projections/src",
    "engine/api/src",
    "engine/export/src",
    "engine/backup/src",
    "tools/daybook/src",
    "tools/bots/src",
];

/// A module, as the names that lead to it.
type Module = Vec<String>;

/// The files of a crate by their modules; the crate's root, which re-exports what others have, is
/// none.
fn modules(source: &Path) -> BTreeMap<Module, String> {
    fn collect(directory: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => collect(&path, found),
                false => found.push(path),
            }
        }
    }
    let mut files = Vec::new();
    collect(source, &mut files);
    let of = |path: PathBuf| {
        let name = path.strip_prefix(source).unwrap().with_extension("");
        let module: Module = name.iter().map(|part| part.to_string_lossy().into_owned()).collect();
        (module, std::fs::read_to_string(path).unwrap())
    };
    let is_root = |module: &Module| matches!(module.join("/").as_str(), "lib" | "main");
    files.into_iter().map(of).filter(|(module, _)| !is_root(module)).collect()
}

/// A file's code without comments and tests.
fn code(text: &str) -> String {
    let before_tests = text.split("#[cfg(test)]").next().unwrap_or_default();
    let lines = before_tests.lines().map(|line| line.split("//").next().unwrap_or_default());
    lines.collect::<Vec<_>>().join("\n")
}

/// The paths that a text begins with: one, or several where braces open.
fn paths(text: &str) -> Vec<Module> {
    let is_name = |character: char| character.is_alphanumeric() || character == '_';
    let mut path = Module::new();
    let mut rest = text.trim_start();
    loop {
        let end = rest.find(|character| !is_name(character)).unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        if !name.is_empty() {
            path.push(name.to_owned());
        }
        match after.strip_prefix("::") {
            Some(more) if more.starts_with('{') => {
                let parts = parts(more.split_at(1).1);
                let inner = parts.iter().flat_map(|part| paths(part));
                return inner.map(|inner| [path.clone(), inner].concat()).collect();
            }
            Some(more) => rest = more,
            None => return vec![path],
        }
    }
}

/// What stands between commas up to the brace that closes.
fn parts(text: &str) -> Vec<&str> {
    let (mut depth, mut start, mut found) = (0, 0, Vec::new());
    for (at, character) in text.char_indices() {
        match character {
            '{' => depth += 1,
            '}' if depth == 0 => {
                found.extend(text.get(start..at));
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                found.extend(text.get(start..at));
                start = at + 1;
            }
            _ => {}
        }
    }
    found
}

/// The files that a file uses: by `crate::…`, by `super::…`, and its own submodules by their names.
fn used(module: &Module, text: &str, all: &BTreeMap<Module, String>) -> BTreeSet<Module> {
    let code = code(text);
    let parent = module.split_last().map_or(&[][..], |(_, parent)| parent);
    let mut found = Vec::new();
    for (opening, base) in [("crate::", &[][..]), ("super::", parent)] {
        for (at, _) in code.match_indices(opening) {
            let after = code.split_at(at + opening.len()).1;
            // A path that begins with a brace has no name before it.
            let all = match after.strip_prefix('{') {
                Some(inner) => parts(inner).into_iter().flat_map(paths).collect(),
                None => paths(after),
            };
            found.extend(all.into_iter().map(|path| [base.to_vec(), path].concat()));
        }
    }
    let children =
        all.keys().filter(|other| other.split_last().is_some_and(|(_, of)| of == module));
    let is_used = |child: &&Module| {
        let opening = format!("{}::", child.last().unwrap());
        code.match_indices(&opening).any(|(at, _)| {
            let before = code.split_at(at).0;
            !before.ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':')
                || before.ends_with("self::")
        })
    };
    found.extend(children.filter(is_used).cloned());
    // The longest beginning that is a file's module.
    let file = |path: Module| {
        (1..=path.len()).rev().find_map(|length| {
            path.get(..length).map(<[String]>::to_vec).filter(|module| all.contains_key(module))
        })
    };
    found.into_iter().filter_map(file).filter(|other| other != module).collect()
}

/// Takes away whatever uses nothing that is left, again and again: what stays is in a circle or
/// leads to one.
fn circles(mut uses: BTreeMap<Module, BTreeSet<Module>>) -> Vec<String> {
    loop {
        let left: BTreeSet<Module> = uses.keys().cloned().collect();
        let before = uses.len();
        uses.retain(|_, used| used.iter().any(|other| left.contains(other)));
        if uses.len() == before {
            return uses.into_keys().map(|module| module.join("/")).collect();
        }
    }
}

#[test]
fn files_use_one_another_in_one_direction() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    for source in SOURCES {
        let all = modules(&root.join(source));
        let uses: BTreeMap<Module, BTreeSet<Module>> =
            all.iter().map(|(module, text)| (module.clone(), used(module, text, &all))).collect();
        assert!(
            uses.values().any(|used| !used.is_empty()) || all.len() < 4,
            "{source}: nothing is read"
        );
        assert_eq!(circles(uses), Vec::<String>::new(), "{source}: files in or above a circle");
    }
}

#[test]
fn a_circle_is_seen() {
    let texts = [
        ("a", "use crate::{b::B, c};"),
        ("b", "use super::c::inner::{D, E};"),
        ("c", "mod inner;\npub use inner::E;"),
        ("c/inner", "// crate::a in words\nuse crate::a::A;"),
        ("d", "use crate::a::A;\n#[cfg(test)]\nuse crate::e::E;"),
    ];
    let all: BTreeMap<Module, String> = texts
        .iter()
        .map(|(name, text)| (name.split('/').map(str::to_owned).collect(), (*text).to_owned()))
        .collect();
    let uses = all.iter().map(|(module, text)| (module.clone(), used(module, text, &all)));
    assert_eq!(circles(uses.collect()), ["a", "b", "c", "c/inner", "d"]);
}
