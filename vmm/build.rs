//! Builds the guest kernel for its own target and leaves it where `kernel_image.rs` embeds it.
//!
//! The kernel is a binary of this workspace, but for `x86_64-unknown-none` and with its own flags
//! (`.cargo/config.toml`), so a second cargo builds it, in a target directory of its own.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

fn main() {
    let manifest_dir = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("set by cargo"));
    let workspace = manifest_dir.parent().expect("the crate lies in the workspace").to_owned();
    let out_dir = PathBuf::from(env::var_os("OUT_DIR").expect("set by cargo"));
    for path in ["guest-kernel", "shared-abi", "Cargo.toml", "Cargo.lock", ".cargo"] {
        println!("cargo:rerun-if-changed={}", workspace.join(path).display());
    }

    let target_dir = out_dir.join("kernel-target");
    let mut cargo = Command::new(env::var_os("CARGO").expect("set by cargo"));
    // The outer build's flags are the host's; clippy and coverage wrappers have no business here.
    for variable in [
        "CARGO_ENCODED_RUSTFLAGS",
        "RUSTFLAGS",
        "RUSTC_WRAPPER",
        "RUSTC_WORKSPACE_WRAPPER",
        "CARGO_BUILD_TARGET",
        "CARGO_TARGET_DIR",
    ] {
        cargo.env_remove(variable);
    }
    cargo
        .current_dir(&workspace)
        .args(["build", "--quiet", "--profile", "kernel"])
        .args(["--package", "guest-kernel", "--bin", "guest-kernel"])
        .args(["--target", "x86_64-unknown-none", "--target-dir"])
        .arg(&target_dir);
    let status = cargo.status().expect("cargo runs");
    assert!(
        status.success(),
        "building the guest kernel failed; if its target is missing: rustup target add x86_64-unknown-none"
    );
    let kernel = target_dir.join("x86_64-unknown-none/kernel/guest-kernel");
    fs::copy(&kernel, out_dir.join("guest-kernel.elf")).expect("the kernel was built");
    copy_beside_binary(&out_dir, &kernel);
    link_statically(&out_dir);
}

/// Leaves a copy beside the `vmm` binary, for `--kernel`, disassemblers and the instruction scan.
fn copy_beside_binary(out_dir: &Path, kernel: &Path) {
    // OUT_DIR is <target>/<profile>/build/vmm-<hash>/out.
    if let Some(profile_dir) = out_dir.ancestors().nth(3) {
        fs::copy(kernel, profile_dir.join("guest-kernel.elf"))
            .expect("the target directory is writable");
    }
}

/// Links the `vmm` binary with the C library's archive, where there is one: no shared library has to be
/// found, mapped and relocated at each start, and less memory is resident.
///
/// `-C target-feature=+crt-static` would do the same, but for procedural macros as well, which cannot
/// be static. So the linker is told directly: a static executable, and for the names of the shared
/// libraries that rustc asks for, linker scripts that lead to the archives.
fn link_statically(out_dir: &Path) {
    println!("cargo:rerun-if-env-changed=CC");
    let compiler = env::var_os("CC").unwrap_or_else(|| "cc".into());
    let finds = |archive: &str| {
        let output = Command::new(&compiler).arg(format!("-print-file-name={archive}")).output();
        // An archive that is not there is printed as it was asked for, without a directory.
        output.is_ok_and(|o| String::from_utf8_lossy(&o.stdout).trim_end().contains('/'))
    };
    if !finds("libc.a") || !finds("libgcc_eh.a") || !finds("rcrt1.o") {
        return;
    }
    for (name, archive) in [("gcc_s", "libgcc_eh.a"), ("c", "libc.a")] {
        let script = out_dir.join("static").join(format!("lib{name}.so"));
        fs::create_dir_all(out_dir.join("static")).expect("OUT_DIR is writable");
        fs::write(script, format!("INPUT(-l:{archive})\n")).expect("OUT_DIR is writable");
    }
    println!("cargo:rustc-link-arg-bins=-L{}", out_dir.join("static").display());
    println!("cargo:rustc-link-arg-bins=-static-pie");
    println!("cargo:rustc-link-arg-bins=-Wl,-z,nodynamic-undefined-weak");
}
