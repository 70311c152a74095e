//! The library that stands between the child and the C library, and what it wrote down.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The shim, built once by the C compiler that SQLite needs too.
pub fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let built = Path::new(env!("CARGO_TARGET_TMPDIR")).join("shim.so");
        let unfinished = built.with_extension(std::process::id().to_string());
        let source = unfinished.with_extension("c");
        std::fs::write(&source, include_str!("shim.c")).unwrap();
        let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".to_owned());
        let arguments = ["-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o"];
        let status = Command::new(compiler)
            .args(arguments)
            .args([&unfinished, &source])
            .args(["-ldl", "-lpthread"])
            .status()
            .expect("a C compiler");
        assert!(status.success(), "the shim compiles");
        std::fs::remove_file(&source).unwrap();
        std::fs::rename(&unfinished, &built).unwrap();
        built
    })
}

/// Something that was done to a file, or printed.
#[derive(Debug)]
pub struct Call {
    pub what: What,
    /// The file; for a rename its old name.
    pub path: PathBuf,
}

#[derive(Debug)]
pub enum What {
    Create,
    Write { offset: usize, bytes: Vec<u8> },
    Truncate { length: usize },
    Rename { to: PathBuf },
    Unlink,
    Synced { succeeded: bool },
    Printed { text: String },
}

/// Reads what the shim wrote down, in order.
pub fn read_log(path: &Path) -> Vec<Call> {
    let bytes = std::fs::read(path).unwrap();
    let mut rest = bytes.as_slice();
    let mut calls = Vec::new();
    while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
        let header = std::str::from_utf8(&rest[..end]).unwrap();
        let fields: Vec<&str> = header.split('\t').collect();
        let length: usize = fields[3].parse().unwrap();
        let data = &rest[end + 1..end + 1 + length];
        rest = &rest[end + 1 + length..];
        let number = || fields[2].parse().unwrap();
        let what = match fields[0] {
            "create" => What::Create,
            "write" => What::Write { offset: number(), bytes: data.to_vec() },
            "truncate" => What::Truncate { length: number() },
            "rename" => What::Rename { to: fields[2].into() },
            "unlink" => What::Unlink,
            "sync" => What::Synced { succeeded: fields[4] == "0" },
            "print" => What::Printed { text: String::from_utf8_lossy(data).into_owned() },
            other => unreachable!("{other}"),
        };
        calls.push(Call { what, path: fields[1].into() });
    }
    calls
}
