//! The numbers that `vmm run --stats=json` tells of a run.

use serde_json::Value;

use crate::run::{Output, Run};

/// Runs `run` with `--stats=json`: what came of it, and the numbers.
#[track_caller]
pub fn with_stats(run: Run) -> (Output, Stats) {
    let dir = tempfile::TempDir::new().expect("a temporary directory");
    let file = dir.path().join("stats.json");
    let options = ["--stats=json".as_ref(), "--stats-file".as_ref(), file.as_os_str()];
    let output = run.options(options).output();
    output.expect_code(0);
    let text = std::fs::read(&file).unwrap_or_else(|e| output.fail(&format!("no statistics: {e}")));
    (output, Stats { json: serde_json::from_slice(&text).expect("JSON") })
}

/// The numbers of one run.
pub struct Stats {
    json: Value,
}

impl Stats {
    /// Exits to the VMM, of all kinds.
    pub fn exits(&self) -> u64 {
        self.number("/exits/total")
    }

    /// Ticks of the time-stamp counter from the kernel's entry to the first user instruction.
    pub fn entry_to_user_ticks(&self) -> u64 {
        self.number("/boot/entry_to_user_ticks")
    }

    /// Guest memory that was touched, in bytes.
    pub fn guest_touched_bytes(&self) -> u64 {
        self.number("/memory/guest_touched_bytes")
    }

    /// Resident memory of the VMM besides guest memory, in bytes.
    pub fn vmm_resident_bytes(&self) -> u64 {
        self.number("/memory/vmm_resident_bytes")
    }

    /// The whole object.
    pub fn json(&self) -> &Value {
        &self.json
    }

    #[track_caller]
    fn number(&self, path: &str) -> u64 {
        let value = self.json.pointer(path).and_then(Value::as_u64);
        value.unwrap_or_else(|| panic!("no number {path} in {}", self.json))
    }
}
