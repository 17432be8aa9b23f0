//! What lints cannot see: the layout of the tree, the length of files, where `unsafe` may be.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use vmm_tests::source_root;

const LINES_MAX: usize = 600;
/// Tests are read one by one.
const TEST_LINES_MAX: usize = 800;

/// The only files with `unsafe` in them: widening the list is to be a visible change.
const UNSAFE_FILES: &[&str] = &[
    // the hardware: what the kernel is for
    "guest-kernel/src/main.rs",
    "guest-kernel/src/arch/",
    "guest-kernel/src/boot.rs",
    "guest-kernel/src/boot_info.rs",
    "guest-kernel/src/driver/stdio.rs",
    "guest-kernel/src/mm/fault.rs",
    "guest-kernel/src/mm/frame.rs",
    "guest-kernel/src/mm/heap.rs",
    "guest-kernel/src/mm/image.rs",
    "guest-kernel/src/mm/page_table.rs",
    "guest-kernel/src/mm/space.rs",
    "guest-kernel/src/mm/user.rs",
    "guest-kernel/src/panic.rs",
    "guest-kernel/src/report.rs",
    "guest-kernel/src/sync/",
    // guest memory, and what the libraries leave to us
    "vmm/src/host.rs",
    "vmm/src/kick.rs",
    "vmm/src/memory.rs",
    "vmm/src/poll.rs",
    "vmm/src/signal_fd.rs",
    "vmm/src/sys.rs",
];

const TOP_LEVEL: &[&str] = &[
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "README.md",
    "guest-kernel",
    "rust-toolchain.toml",
    "scripts",
    "shared-abi",
    "target",
    "tests",
    "vmm",
];

/// Every file of these extensions below the top that is not a build result.
fn sources(extensions: &[&str]) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut dirs = vec![source_root()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).expect("a directory") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            if path.is_dir() && name != ".git" && name != "target" {
                dirs.push(path);
            } else if extensions.iter().any(|extension| name.ends_with(extension)) {
                files.push(path);
            }
        }
    }
    files.sort();
    assert!(!files.is_empty());
    files
}

fn relative(path: &Path) -> String {
    path.strip_prefix(source_root()).expect("below the top").display().to_string()
}

/// Calls `complain` with each line and its number; fails with all the complaints.
fn check_lines(extensions: &[&str], complain: impl Fn(&Path, &[&str], usize) -> Option<String>) {
    let mut complaints = Vec::new();
    for path in sources(extensions) {
        let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let lines: Vec<&str> = text.lines().collect();
        for index in 0..lines.len() {
            if let Some(complaint) = complain(&path, &lines, index) {
                complaints.push(format!("{}:{}: {complaint}", relative(&path), index + 1));
            }
        }
    }
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

/// The line without its comment; good enough for code that has been formatted.
fn code(line: &str) -> &str {
    line.split("//").next().unwrap_or("")
}

fn has_word(line: &str, word: &str) -> bool {
    line.split(|c: char| !c.is_alphanumeric() && c != '_').any(|found| found == word)
}

/// `unsafe` as a word of the language, not in a lint's name or a string.
fn has_unsafe(line: &str) -> bool {
    let line = code(line);
    has_word(line, "unsafe") && !line.contains("\"unsafe")
}

#[test]
fn the_top_level_has_only_what_belongs_there() {
    let allowed: BTreeSet<String> = TOP_LEVEL.iter().map(|name| name.to_string()).collect();
    let found = fs::read_dir(source_root()).expect("the top");
    let found =
        found.map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8"));
    let found: BTreeSet<String> = found.filter(|name| !name.starts_with('.')).collect();
    let odd: Vec<_> = found.difference(&allowed).collect();
    assert!(odd.is_empty(), "these do not belong at the top level: {odd:?}");
}

#[test]
fn files_are_short_enough_to_read() {
    check_lines(&[".rs", ".c", ".S", ".cpp", ".bash"], |path, _, index| {
        let name = relative(path);
        let is_test = name.ends_with("tests.rs") || name.ends_with("_test.rs");
        let max = if is_test { TEST_LINES_MAX } else { LINES_MAX };
        (index == max).then(|| format!("more than {max} lines"))
    });
}

#[test]
fn nothing_is_left_to_be_done() {
    let marks = ["FIX", "XX", "HA", "TO"].into_iter().zip(["ME", "X", "CK", "DO"]);
    let marks: Vec<String> = marks.map(|(a, b)| format!("{a}{b}")).collect();
    check_lines(&[".rs", ".c", ".S", ".cpp", ".bash", ".toml", ".md"], |_, lines, index| {
        marks.iter().find(|mark| has_word(lines[index], mark)).cloned()
    });
}

#[test]
fn unsafe_is_only_where_it_is_listed() {
    check_lines(&[".rs"], |path, lines, index| {
        let name = relative(path);
        let listed = UNSAFE_FILES
            .iter()
            .any(|file| name == *file || file.ends_with('/') && name.starts_with(file));
        (has_unsafe(lines[index]) && !listed && name != "tests/tests/tidy.rs")
            .then(|| "unsafe in a file that is not listed".to_string())
    });
}

#[test]
fn each_unsafe_block_says_why_it_is_sound() {
    check_lines(&[".rs"], |path, lines, index| {
        let line = code(lines[index]);
        let block = has_unsafe(line) && line.contains("unsafe {") || line.contains("unsafe impl");
        if !block || relative(path) == "tests/tests/tidy.rs" {
            return None;
        }
        let before =
            lines[..index].iter().rev().take(12).take_while(|line| !line.trim().is_empty());
        let explained = before.chain([&lines[index]]).any(|line| line.contains("SAFETY:"));
        (!explained).then(|| "no SAFETY comment".to_string())
    });
}

#[test]
fn the_licences_are_there() {
    for name in ["LICENSE-MIT", "LICENSE-APACHE"] {
        assert!(source_root().join(name).exists(), "{name} is missing");
    }
}
