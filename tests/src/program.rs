//! Builds the guest programs of `tests/guest/`, each when it is first wanted.
//!
//! A result's name holds a hash of all that went into it, so it is built once and found again by
//! later runs, by those in the lab too, where nothing should be compiled.

use std::ffi::OsStr;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use crate::{profile_dir, source_root};

/// The program built from `tests/guest/SOURCE` by gcc, g++ or rustc with `flags`.
pub fn guest(source: &str, flags: &[&str]) -> PathBuf {
    let extension = Path::new(source).extension().and_then(OsStr::to_str);
    match extension {
        Some("c" | "S") => build("gcc", &["-O1", "-Wall", "-Werror"], source, flags),
        Some("cpp") => build("g++", &["-O1", "-Wall", "-Werror"], source, flags),
        Some("rs") => build("rustc", &["--edition=2024", "-O"], source, flags),
        _ => panic!("{source}: no compiler for that"),
    }
}

/// The static program built from `tests/guest/SOURCE` by musl-gcc with `flags`.
pub fn guest_musl(source: &str, flags: &[&str]) -> PathBuf {
    build("musl-gcc", &["-O1", "-Wall", "-Werror", "-static"], source, flags)
}

/// The printf hello of the tutorial, linked statically: the program for tests of something else.
pub fn static_hello() -> PathBuf {
    guest("hello_printf.c", &["-static"])
}

/// What [`static_hello`] prints.
pub const HELLO: &str = "Hello, world!\n";

fn build(compiler: &str, usual: &[&str], source: &str, flags: &[&str]) -> PathBuf {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock();

    let path = source_root().join("tests/guest").join(source);
    let text = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut hasher = DefaultHasher::new();
    (compiler, usual, flags, text).hash(&mut hasher);

    let dir = profile_dir().join("guest-programs");
    let stem = path.file_stem().expect("a file name").to_string_lossy().into_owned();
    let result = dir.join(format!("{stem}-{:016x}", hasher.finish()));
    if result.exists() {
        return result;
    }
    std::fs::create_dir_all(&dir).expect("a directory for the guest programs");
    let unfinished = result.with_extension(std::process::id().to_string());
    let output = Command::new(compiler)
        .args(usual)
        .arg(&path)
        .args(flags)
        .arg("-o")
        .arg(&unfinished)
        .current_dir(source_root())
        .output()
        .unwrap_or_else(|e| panic!("{compiler}: {e} (scripts/test installs it)"));
    let messages = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{compiler} {source} {flags:?}:\n{messages}");
    std::fs::rename(&unfinished, &result).expect("the finished program gets its name");
    result
}
