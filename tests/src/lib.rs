//! The whole-program tests: the harness, here; the cases, in `tests/`; the guest programs, in `guest/`.
//!
//! Each guest program is an ordinary Linux program, and is run on the host first: what it prints and
//! how it ends there is what must come out of the virtual machine. Every run has a deadline. Nothing
//! sleeps: tests wait for an event, such as bytes on a stream.
//!
//! * [`run`]: a program, run in a virtual machine or on the host, and what came of it;
//! * [`terminal`]: a pseudo-terminal to run one on;
//! * [`program`]: builds the guest programs;
//! * [`scan`]: finds instructions that the kernel must not contain;
//! * [`stats`]: the numbers that `--stats=json` tells.
//!
//! Environment: `VMM_BIN` is the `vmm` to test (by default a release build, made when it is not up to
//! date); `VMM_TEST_SLOW` is how many times slower than usual this machine is, for the deadlines and
//! the amounts of data (`scripts/test` sets it in the lab).

pub mod program;
pub mod run;
pub mod scan;
pub mod stats;
pub mod terminal;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

/// How many times slower than a usual machine this one is.
pub fn slowness() -> u32 {
    static SLOWNESS: OnceLock<u32> = OnceLock::new();
    *SLOWNESS.get_or_init(|| match std::env::var("VMM_TEST_SLOW") {
        Ok(text) => text.parse().expect("VMM_TEST_SLOW is a number"),
        Err(_) => 1,
    })
}

/// An amount of data: `usual`, or `small` on a machine said to be slow.
pub fn amount(usual: usize, small: usize) -> usize {
    if slowness() > 1 { small } else { usual }
}

/// A time limit, stretched on a machine said to be slow.
pub fn limit(usual: Duration) -> Duration {
    usual * slowness()
}

/// The top of the source tree.
pub fn source_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ has a parent").to_path_buf()
}

/// The directory of this build profile's results, for example `target/debug`.
pub fn profile_dir() -> PathBuf {
    let exe = std::env::current_exe().expect("the path of the test executable");
    let dir = exe.parent().expect("a directory");
    let dir = if dir.ends_with("deps") { dir.parent().expect("a directory") } else { dir };
    dir.to_path_buf()
}

/// The `vmm` binary: `VMM_BIN`, or the release build, brought up to date.
pub fn vmm_binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        if let Some(path) = std::env::var_os("VMM_BIN") {
            let path = PathBuf::from(path);
            assert!(
                path.is_absolute() && path.exists(),
                "VMM_BIN={}: no such file",
                path.display()
            );
            return path;
        }
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
        cargo.args(["build", "--release", "--quiet", "--package", "vmm"]);
        // What `cargo test` tells its tests would look to `cargo build` like a changed configuration.
        for (key, _) in std::env::vars_os() {
            let name = key.to_string_lossy();
            if name.starts_with("CARGO_") && !matches!(&*name, "CARGO_HOME" | "CARGO_TARGET_DIR") {
                cargo.env_remove(&key);
            }
        }
        let status = cargo.current_dir(source_root()).status().expect("cargo runs");
        assert!(status.success(), "cargo build --release failed; the message is above");
        let target = profile_dir().parent().expect("a target directory").to_path_buf();
        target.join("release/vmm")
    })
}

/// The kernel's ELF file, which vmm's build script leaves beside the binary.
pub fn kernel_elf() -> PathBuf {
    vmm_binary().with_file_name("guest-kernel.elf")
}
