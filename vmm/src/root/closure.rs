//! The shared libraries that a program needs, found as ld.so will find them in the guest (man 8 ld.so).
//!
//! A library named without a slash is searched in: DT_RPATH of the library that needs it and of those
//! that led to it (unless it has DT_RUNPATH), LD_LIBRARY_PATH of the guest's environment, DT_RUNPATH,
//! /etc/ld.so.cache, the default directories. musl's ld.so has its own file and its own defaults.
//!
//! Limits: what a program opens with dlopen is not known here (--file and --dir add it);
//! glibc-hwcaps directories are not searched, the baseline library beside them is used.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::Error;
use super::elf::{Elf, HEAD_LEN, Role};
use crate::program::variable;

/// The most libraries of one program: a file that asks for more is hostile.
const LIBRARY_COUNT_MAX: usize = 4096;
/// The file that lists the libraries outside of the default directories.
const CACHE_PATH: &str = "/etc/ld.so.cache";
/// The largest cache that is believed.
const CACHE_LEN_MAX: u64 = 16 << 20;
/// Where glibc looks last: Debian's multiarch directories, then everybody's.
const GLIBC_DIRECTORIES: [&str; 6] = [
    "/lib/x86_64-linux-gnu",
    "/usr/lib/x86_64-linux-gnu",
    "/lib64",
    "/usr/lib64",
    "/lib",
    "/usr/lib",
];
/// Where musl looks if it has no list.
const MUSL_DIRECTORIES: &str = "/lib:/usr/local/lib:/usr/lib";
/// Names that musl's ld.so answers itself (`ldso/dynlink.c`, `load_library`).
const MUSL_BUILT_IN: [&str; 7] =
    ["libc.", "libpthread.", "librt.", "libm.", "libdl.", "libutil.", "libxnet."];

/// Paths on the host, absolute, links not resolved, of all that `program` needs besides itself: its
/// ELF interpreter, its libraries, and the lists of ld.so if a library was found through them.
pub(crate) fn find(
    program: &Path,
    elf: &Elf,
    environment: &[OsString],
    cwd: &Path,
) -> Result<Vec<PathBuf>, Error> {
    let Some(interpreter) = &elf.interpreter else {
        return Ok(Vec::new());
    };
    let interpreter = cwd.join(interpreter);
    let mut search = Search::new(&interpreter, environment, cwd);
    search.add_preloads(program, environment);
    search.run(program, elf)?;
    let mut paths = vec![interpreter];
    paths.extend(search.objects.into_iter().skip(1).map(|object| object.path));
    paths.extend(search.list_used);
    Ok(paths)
}

/// A program or library that is loaded.
struct Object {
    path: PathBuf,
    /// For `$ORIGIN`.
    directory: PathBuf,
    elf: Elf,
    /// Index of the object that needs it first.
    loader: Option<usize>,
}

struct Search<'a> {
    environment_path: Option<&'a OsStr>,
    cwd: &'a Path,
    is_musl: bool,
    /// In the order of loading; the program first.
    objects: Vec<Object>,
    /// Names that need no search any more.
    known: HashSet<OsString>,
    /// Libraries to be loaded besides the program's own, in front of them.
    preloads: Vec<OsString>,
    /// ld.so's list: read when first asked.
    list: Option<List>,
    /// The list's path, once something was found through it.
    list_used: Option<PathBuf>,
}

enum List {
    /// glibc's cache, as in the file.
    Cache(Vec<u8>),
    /// Directories, from musl's file.
    Directories(Vec<PathBuf>),
}

impl<'a> Search<'a> {
    fn new(interpreter: &Path, environment: &'a [OsString], cwd: &'a Path) -> Search<'a> {
        let name = interpreter.file_name().unwrap_or_default();
        Search {
            environment_path: environment
                .iter()
                .find_map(|entry| variable(entry, "LD_LIBRARY_PATH"))
                .filter(|path| !path.is_empty()),
            cwd,
            is_musl: name.as_bytes().starts_with(b"ld-musl-"),
            objects: Vec::new(),
            // libc asks for its own ld.so, which is there already.
            known: HashSet::from([name.to_os_string()]),
            preloads: Vec::new(),
            list: None,
            list_used: None,
        }
    }

    fn add_preloads(&mut self, program: &Path, environment: &[OsString]) {
        let Some(names) = environment.iter().find_map(|entry| variable(entry, "LD_PRELOAD")) else {
            return;
        };
        let origin = program.parent().unwrap_or(Path::new("/"));
        self.preloads = names
            .as_bytes()
            .split(|byte| matches!(byte, b' ' | b':'))
            .filter(|name| !name.is_empty())
            .map(|name| expand(name, origin).into_os_string())
            .collect();
    }

    fn run(&mut self, program: &Path, elf: &Elf) -> Result<(), Error> {
        // ld.so takes the program's directory from /proc/self/exe, where links are resolved.
        let real = program.canonicalize().unwrap_or_else(|_| program.to_path_buf());
        let directory = real.parent().unwrap_or(Path::new("/")).to_path_buf();
        let path = program.to_path_buf();
        self.objects.push(Object { path, directory, elf: elf.clone(), loader: None });
        for name in std::mem::take(&mut self.preloads) {
            // ld.so warns about a missing one and goes on.
            let _ = self.load(&name, 0);
        }
        let mut index = 0;
        // Breadth first, as ld.so does it: the order decides which RPATH is asked.
        while let Some(object) = self.objects.get(index) {
            for name in object.elf.needed.clone() {
                if !self.load(&name, index) {
                    let needed_by = self.objects.get(index).map(|object| object.path.clone());
                    return Err(Error::MissingLibrary {
                        name: name.to_string_lossy().into_owned(),
                        needed_by: needed_by.unwrap_or_default(),
                    });
                }
            }
            index += 1;
            if self.objects.len() > LIBRARY_COUNT_MAX {
                return Err(Error::TooManyLibraries(program.to_path_buf()));
            }
        }
        Ok(())
    }

    /// Loads the library `name` for the object at `loader`; false if there is none.
    fn load(&mut self, name: &OsStr, loader: usize) -> bool {
        if self.known.contains(name) || (self.is_musl && is_musl_built_in(name)) {
            return true;
        }
        let Some((path, elf)) = self.search(name, loader) else {
            return false;
        };
        self.known.insert(name.to_os_string());
        if self.objects.iter().any(|object| object.path == path) {
            return true;
        }
        self.known.extend(elf.soname.clone());
        let directory = path.parent().unwrap_or(Path::new("/")).to_path_buf();
        self.objects.push(Object { path, directory, elf, loader: Some(loader) });
        true
    }

    fn search(&mut self, name: &OsStr, loader: usize) -> Option<(PathBuf, Elf)> {
        let object = self.objects.get(loader)?;
        if name.as_bytes().contains(&b'/') {
            return open(self.cwd.join(expand(name.as_bytes(), &object.directory)));
        }
        let cwd = self.cwd;
        let in_list = |list: &OsStr, origin: &Path| {
            list.as_bytes().split(|byte| matches!(byte, b':' | b';')).find_map(|directory| {
                // An empty entry is the working directory.
                open(cwd.join(expand(directory, origin)).join(name))
            })
        };
        if object.elf.runpath.is_none() {
            let found = self.loaders(loader).find_map(|object| {
                let rpath = object.elf.rpath.as_ref().filter(|_| object.elf.runpath.is_none())?;
                in_list(rpath, &object.directory)
            });
            if found.is_some() {
                return found;
            }
        }
        let program_directory = self.objects.first().map(|program| program.directory.as_path());
        let found =
            self.environment_path.and_then(|list| in_list(list, program_directory?)).or_else(
                || object.elf.runpath.as_ref().and_then(|list| in_list(list, &object.directory)),
            );
        match found {
            Some(found) => Some(found),
            None if self.is_musl => self.search_musl(name),
            None => self.search_glibc(name),
        }
    }

    /// The object at `index` and those that led to it; the program is the last.
    fn loaders(&self, index: usize) -> impl Iterator<Item = &Object> {
        std::iter::successors(self.objects.get(index), |object| self.objects.get(object.loader?))
    }

    fn search_glibc(&mut self, name: &OsStr) -> Option<(PathBuf, Elf)> {
        let list = self.list.get_or_insert_with(|| List::Cache(read_cache().unwrap_or_default()));
        if let List::Cache(cache) = list
            && let Some(found) = cache_lookup(cache, name).and_then(open)
        {
            // In a default directory ld.so finds it without its cache.
            let directory = found.0.parent();
            if !GLIBC_DIRECTORIES.iter().any(|known| directory == Some(Path::new(known))) {
                self.list_used = Some(PathBuf::from(CACHE_PATH));
            }
            return Some(found);
        }
        GLIBC_DIRECTORIES.iter().find_map(|directory| open(Path::new(directory).join(name)))
    }

    fn search_musl(&mut self, name: &OsStr) -> Option<(PathBuf, Elf)> {
        let file = Path::new("/etc/ld-musl-x86_64.path");
        let list = self.list.get_or_insert_with(|| {
            let listed = std::fs::read(file).ok();
            if listed.is_some() {
                self.list_used = Some(file.to_path_buf());
            }
            let listed = listed.unwrap_or_else(|| MUSL_DIRECTORIES.into());
            let directories = listed.split(|byte| matches!(byte, b':' | b'\n'));
            List::Directories(directories.map(|name| OsStr::from_bytes(name).into()).collect())
        });
        let List::Directories(directories) = list else {
            return None;
        };
        directories.iter().find_map(|directory| open(self.cwd.join(directory).join(name)))
    }
}

fn is_musl_built_in(name: &OsStr) -> bool {
    MUSL_BUILT_IN.iter().any(|known| name.as_bytes().starts_with(known.as_bytes()))
}

/// A library that ld.so would take; one for another machine it passes over.
fn open(path: PathBuf) -> Option<(PathBuf, Elf)> {
    let file = File::open(&path).ok()?;
    let metadata = file.metadata().ok()?;
    if !metadata.is_file() {
        return None;
    }
    let mut head = [0; HEAD_LEN];
    let head_len = file.read_at(&mut head, 0).ok()?;
    let elf = Elf::parse(&file, metadata.len(), head.get(..head_len)?, Role::Library).ok()?;
    Some((path, elf))
}

/// Replaces the tokens of man 8 ld.so. `$PLATFORM` differs between processors and is left out.
fn expand(path: &[u8], origin: &Path) -> PathBuf {
    let tokens: [(&[u8], &[u8]); 4] = [
        (b"$ORIGIN", origin.as_os_str().as_bytes()),
        (b"${ORIGIN}", origin.as_os_str().as_bytes()),
        (b"$LIB", b"lib/x86_64-linux-gnu"),
        (b"${LIB}", b"lib/x86_64-linux-gnu"),
    ];
    let mut expanded = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((&byte, tail)) = rest.split_first() {
        let token = tokens.iter().find(|(token, _)| rest.starts_with(token));
        match token.and_then(|(token, value)| rest.get(token.len()..).zip(Some(value))) {
            Some((tail, value)) => {
                expanded.extend_from_slice(value);
                rest = tail;
            }
            None => {
                expanded.push(byte);
                rest = tail;
            }
        }
    }
    PathBuf::from(OsString::from_vec(expanded))
}

fn read_cache() -> Option<Vec<u8>> {
    let file = File::open(CACHE_PATH).ok()?;
    let len = file.metadata().ok().filter(|metadata| metadata.len() <= CACHE_LEN_MAX)?.len();
    let mut cache = vec![0; usize::try_from(len).ok()?];
    file.read_exact_at(&mut cache, 0).ok()?;
    Some(cache)
}

/// Looks `name` up in glibc's cache (`sysdeps/generic/dl-cache.h`, `struct cache_file_new`): a header
/// of 48 bytes, then entries {flags, key, value, os_version, hwcap}, keys and values being offsets of
/// strings in the file.
fn cache_lookup(cache: &[u8], name: &OsStr) -> Option<PathBuf> {
    const MAGIC: &[u8] = b"glibc-ld.so.cache1.1";
    const HEADER_LEN: usize = 48;
    const ENTRY_LEN: usize = 24;
    /// `FLAG_ELF_LIBC6 | FLAG_X8664_LIB64`.
    const FLAGS_X86_64: u32 = 0x0303;

    let word =
        |bytes: &[u8], at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let string_at = |offset: u32| {
        let rest = cache.get(usize::try_from(offset).ok()?..)?;
        rest.split(|&byte| byte == 0).next()
    };
    if !cache.starts_with(MAGIC) {
        return None;
    }
    let count = usize::try_from(word(cache, MAGIC.len())?).ok()?;
    let entries = cache.get(HEADER_LEN..)?.chunks_exact(ENTRY_LEN).take(count);
    let wanted = name.as_bytes();
    for entry in entries {
        // An entry with hwcap bits is for some processors only.
        let is_plain = entry.get(16..24).is_some_and(|hwcap| hwcap.iter().all(|&byte| byte == 0));
        if !is_plain || word(entry, 0)? != FLAGS_X86_64 {
            continue;
        }
        let key = cache.get(usize::try_from(word(entry, 4)?).ok()?..)?;
        if key.starts_with(wanted) && key.get(wanted.len()) == Some(&0) {
            return Some(PathBuf::from(OsStr::from_bytes(string_at(word(entry, 8)?)?)));
        }
    }
    None
}
