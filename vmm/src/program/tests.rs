//! Every refusal, with a file that deserves it.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use tempfile::TempDir;

use super::*;

fn config(program: &Path) -> Config {
    Config::new(program)
}

fn executable(directory: &TempDir, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
    let path = directory.path().join(name);
    fs::write(&path, content).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// Exit code and message of what is refused.
#[track_caller]
fn refusal(program: &Path) -> (u8, String) {
    let error = Program::find(&config(program)).unwrap_err();
    let message = error.to_string();
    assert!(!message.contains('\n'), "one line: {message}");
    (error.exit_code(), message)
}

/// A file that is refused with an exit code and words.
#[track_caller]
fn assert_refused(content: impl AsRef<[u8]>, code: u8, words: &str) {
    let directory = TempDir::new().unwrap();
    let path = executable(&directory, "x", content);
    let (found, message) = refusal(&path);
    assert!(found == code && message.contains(words), "{found} {message}");
    assert!(message.starts_with(&format!("{}: ", path.display())), "{message}");
}

/// A well-formed program of one segment; `interpreter` goes into a second.
fn elf(interpreter: Option<&[u8]>) -> Vec<u8> {
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    file.extend([2, 0, 62, 0, 1, 0, 0, 0]);
    file.extend(0x40_0000u64.to_le_bytes());
    file.extend(64u64.to_le_bytes());
    file.extend([0; 8]);
    file.extend([0, 0, 0, 0, 64, 0, 56, 0, 2, 0, 64, 0, 0, 0, 0, 0]);
    let mut segment = |kind: u32, offset: u64, len: u64| {
        file.extend(kind.to_le_bytes());
        file.extend(5u32.to_le_bytes());
        for word in [offset, 0x40_0000, 0x40_0000, len, len, 4096] {
            file.extend(word.to_le_bytes());
        }
    };
    segment(1, 0, 176);
    match interpreter {
        Some(name) => segment(3, 176, name.len() as u64),
        None => segment(0, 0, 0),
    }
    file.extend(interpreter.unwrap_or_default());
    file
}

/// The program of [`elf`] with bytes replaced.
fn patched(at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut file = elf(Some(b"/lib64/ld-linux-x86-64.so.2\0"));
    file[at..at + bytes.len()].copy_from_slice(bytes);
    file
}

#[test]
fn found_as_given() {
    let directory = TempDir::new().unwrap();
    let path = executable(&directory, "x", elf(None));
    let link = directory.path().join("link");
    symlink(&path, &link).unwrap();
    let program = Program::find(&config(&link)).unwrap();
    assert_eq!(program.path, link);
    assert_eq!(program.chain.len(), 1);
    let dynamic = executable(&directory, "d", patched(0, b"\x7f"));
    let program = Program::find(&config(&dynamic)).unwrap();
    let elf = program.chain[0].elf.as_ref().unwrap();
    assert_eq!(elf.interpreter.as_deref(), Some(Path::new("/lib64/ld-linux-x86-64.so.2")));
}

#[test]
fn names_are_searched_as_execvp_does() {
    let (first, second) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let path = executable(&second, "x", elf(None));
    fs::create_dir(first.path().join("x")).unwrap();
    fs::write(first.path().join("y"), "").unwrap();
    executable(&second, "y", elf(None));
    fs::write(first.path().join("z"), "").unwrap();
    let search_path = std::env::join_paths([first.path(), second.path()]).unwrap();
    let find = |name: &str| Program::find_in(&config(Path::new(name)), Some(&search_path));
    assert_eq!(find("x").unwrap().path, path);
    assert_eq!(find("y").unwrap().path, second.path().join("y"));
    let error = find("z").unwrap_err();
    assert!(matches!(error, Error::NotExecutable(_)) && error.exit_code() == 126, "{error}");
    let error = find("no-such-program").unwrap_err();
    assert!(matches!(error, Error::NotInPath(..)) && error.exit_code() == 127, "{error}");
    assert!(!error.to_string().contains('\n'));
    assert_eq!(Program::find(&config(Path::new("sh"))).unwrap().path.file_name().unwrap(), "sh");
    assert_eq!(refusal(Path::new("")).0, 127);
}

#[test]
fn what_is_no_program() {
    let directory = TempDir::new().unwrap();
    assert_eq!(refusal(&directory.path().join("none")).0, 127);
    assert_eq!(refusal(directory.path()).0, 126);
    assert!(refusal(directory.path()).1.contains("is a directory"));
    assert!(refusal(Path::new("/dev/null")).1.contains("not a regular file"));
    let (code, message) = refusal(Path::new("/etc/passwd/x"));
    assert!(code == 126 && message.contains("Not a directory"), "{code} {message}");
    let plain = executable(&directory, "plain", elf(None));
    fs::set_permissions(&plain, fs::Permissions::from_mode(0o644)).unwrap();
    let (code, message) = refusal(&plain);
    assert!(code == 126 && message.contains("run chmod +x"), "{message}");
    let dangling = directory.path().join("dangling");
    symlink("nowhere", &dangling).unwrap();
    assert_eq!(refusal(&dangling).0, 127);
    assert_refused("", 126, "is empty");
    assert_refused("echo hi\n", 126, "text without #!");
    assert_refused("#", 126, "text without #!");
    assert_refused("MZ\0\0", 126, "neither an ELF program nor a script");
}

#[test]
fn what_is_no_elf_program_for_this_machine() {
    let file = |at, bytes: &[u8]| patched(at, bytes);
    assert_refused(file(18, &[183, 0]), 126, "is for aarch64, this machine is x86_64");
    assert_refused(file(18, &[0xff, 0xfe]), 126, "is for machine number 65279");
    assert_refused(file(4, &[1]), 126, "32-bit");
    assert_refused(file(18, &[3, 0]), 126, "32-bit");
    // 32-bit big-endian PowerPC.
    assert_refused(b"\x7fELF\x01\x02\x01\0\0\0\0\0\0\0\0\0\0\x02\0\x14", 126, "is for ppc");
    assert_refused(file(16, &[1, 0]), 126, "object file");
    assert_refused(file(16, &[4, 0]), 126, "core dump");
    assert_refused(file(16, &[9, 0]), 126, "unknown ELF type 9");
    assert_refused(file(56, &[0, 0]), 126, "no loadable segment");
    assert_refused(file(64, &[6]), 126, "no loadable segment");
    assert_refused(file(54, &[32]), 126, "malformed");
    assert_refused(file(56, &[0xff, 0xff]), 126, "malformed");
    assert_refused(file(32, &[0, 0, 1]), 126, "truncated");
    assert_refused(file(32, &[0xff; 8]), 126, "truncated");
    // File size of the first segment.
    assert_refused(file(64 + 32, &[0, 0, 1]), 126, "truncated");
    assert_refused(file(64 + 8, &[0xff; 8]), 126, "truncated");
    let whole = elf(None);
    for len in [4, 5, 16, 19, 20, 40, 63, 64, 100, 119, 120, 175] {
        assert_refused(&whole[..len], 126, "truncated");
    }
}

#[test]
fn what_has_no_usable_elf_interpreter() {
    assert_refused(elf(Some(b"/no/such/ld.so\0")), 127, "/no/such/ld.so: no such file");
    assert_refused(elf(Some(b"/etc/passwd\0")), 126, "/etc/passwd");
    assert_refused(elf(Some(b"/bin\0")), 126, "is a directory");
    assert_refused(elf(Some(b"/lib64/ld-linux")), 126, "name does not end");
    assert_refused(elf(Some(b"\0\0")), 126, "name is empty");
    assert_refused(elf(Some(b"\0")), 126, "name is empty");
    assert_refused(elf(Some(&[b'x'; 5000])), 126, "longer than 4 KiB");
}

#[test]
fn scripts_bring_their_interpreters() {
    let directory = TempDir::new().unwrap();
    let interpreter = executable(&directory, "interpreter", elf(None));
    let name = interpreter.to_str().unwrap();
    for line in [
        format!("#!{name}\n"),
        format!("#! \t{name} \t\necho"),
        format!("#!{name} -x y z\n"),
        format!("#!{name}"),
        format!("#!{name} {}", "a".repeat(400)),
    ] {
        let script = executable(&directory, "script", &line);
        let program = Program::find(&config(&script)).unwrap();
        let paths: Vec<&Path> = program.chain.iter().map(|link| link.path.as_path()).collect();
        assert_eq!(paths, [script.as_path(), &interpreter], "{line}");
    }
    assert_refused("#!", 126, "#! line names no interpreter");
    assert_refused("#! \t\n", 126, "#! line names no interpreter");
    assert_refused(format!("#!/{}", "a".repeat(300)), 126, "#! line names no interpreter");
    assert_refused("#!/no/such/interpreter -x\n", 127, "bad interpreter: /no/such/interpreter");
    assert_refused("#!/tmp\n", 126, "bad interpreter: /tmp: is a directory");
}

#[test]
fn scripts_nest_four_deep() {
    let directory = TempDir::new().unwrap();
    let mut path = executable(&directory, "0", elf(None));
    for depth in 1..=4 {
        path = executable(&directory, &depth.to_string(), format!("#!{}\n", path.display()));
        assert_eq!(Program::find(&config(&path)).unwrap().chain.len(), depth + 1);
    }
    path = executable(&directory, "5", format!("#!{}\n", path.display()));
    let (code, message) = refusal(&path);
    assert!(code == 126 && message.contains("nest more than 4 deep"), "{message}");
    let own = directory.path().join("own");
    executable(&directory, "own", format!("#!{}\n", own.display()));
    assert!(refusal(&own).1.contains("nest more than 4 deep"));
}

#[test]
fn env_brings_what_it_will_find() {
    let directory = TempDir::new().unwrap();
    let interpreter = executable(&directory, "my-interpreter", elf(None));
    let search_path = directory.path().as_os_str();
    for line in ["#!/usr/bin/env my-interpreter\n", "#!/usr/bin/env -S A=1 my-interpreter -x\n"] {
        let script = executable(&directory, "script", line);
        let program = Program::find_in(&config(&script), Some(search_path)).unwrap();
        let paths: Vec<&Path> = program.chain.iter().map(|link| link.path.as_path()).collect();
        assert_eq!(paths, [script.as_path(), Path::new("/usr/bin/env"), &interpreter]);
    }
    let script = executable(&directory, "script", "#!/usr/bin/env no-such-program\n");
    assert_eq!(Program::find_in(&config(&script), Some(search_path)).unwrap().chain.len(), 2);
    let own = executable(&directory, "own", "#!/usr/bin/env own\n");
    let error = Program::find_in(&config(&own), Some(search_path)).unwrap_err();
    assert!(matches!(error, Error::TooDeep(_)), "{error}");
}
