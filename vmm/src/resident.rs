//! What memory of this process is resident, and whose it is.

#![forbid(unsafe_code)]

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::ops::Range;

/// Resident bytes of the process, parted by what they belong to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resident {
    /// Of guest RAM.
    pub guest: u64,
    /// Of the root image.
    pub root: u64,
    /// Of all else: the VMM's own.
    pub vmm: u64,
}

/// Measures what is resident; `guest` and `root` are the host address ranges of guest RAM and of the
/// root image.
pub fn measure(guest: &[Range<u64>], root: &[Range<u64>]) -> io::Result<Resident> {
    parse_smaps(BufReader::new(File::open("/proc/self/smaps")?), guest, root)
}

/// `man 5 proc_pid_smaps`: for each mapping a line that begins with its range in hexadecimal, then lines
/// `Key: value`. What does not look like either is passed over.
fn parse_smaps(
    mut smaps: impl BufRead,
    guest: &[Range<u64>],
    root: &[Range<u64>],
) -> io::Result<Resident> {
    let mut resident = Resident::default();
    let mut range = 0..0;
    let mut line = Vec::new();
    loop {
        line.clear();
        if smaps.read_until(b'\n', &mut line)? == 0 {
            return Ok(resident);
        }
        if let Some(value) = line.strip_prefix(b"Rss:") {
            let belongs_to = |ranges: &[Range<u64>]| {
                ranges.iter().any(|r| r.start < range.end && range.start < r.end)
            };
            let part = if belongs_to(guest) {
                &mut resident.guest
            } else if belongs_to(root) {
                &mut resident.root
            } else {
                &mut resident.vmm
            };
            *part += parse_kib(value).unwrap_or(0) << 10;
        } else if let Some(parsed) = parse_range(&line) {
            range = parsed;
        }
    }
}

/// `  1234 kB`.
fn parse_kib(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.split_whitespace().next()?.parse().ok()
}

/// `start-end rest`.
fn parse_range(line: &[u8]) -> Option<Range<u64>> {
    let first = line.split(|&byte| byte == b' ').next()?;
    let (start, end) = std::str::from_utf8(first).ok()?.split_once('-')?;
    Some(u64::from_str_radix(start, 16).ok()?..u64::from_str_radix(end, 16).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smaps_are_parted_by_range() {
        let smaps = b"\
1000-2000 r-xp 00000000 08:01 1   /usr/bin/vmm \xff 3000-4000
Size:                  4 kB
Rss:                   4 kB
VmFlags: rd ex
7f0000000000-7f0000002000 rw-p 00000000 00:00 0
Rss:                   8 kB
7f0000002000-7f0000003000 rw-p 00000000 00:00 0 [heap]
Rss:                  16 kB
8f0000000000-8f0000003000 r--p 00000000 00:00 0
Rss:                  32 kB
Rss: nonsense
";
        let guest = 0x7f00_0000_0000..0x7f00_0000_2000;
        let root = 0x8f00_0000_1000..0x8f00_0000_2000;
        assert_eq!(
            parse_smaps(smaps.as_slice(), &[guest], &[root]).unwrap(),
            Resident { guest: 8 << 10, root: 32 << 10, vmm: 20 << 10 }
        );
        assert!(measure(&[], &[]).unwrap().vmm > 100 << 10);
    }
}
