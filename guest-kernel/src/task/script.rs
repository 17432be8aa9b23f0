//! `#!` lines (Linux's fs/binfmt_script.c).

use super::elf::HEAD_LEN;
use crate::error::{Errno, Result};

/// A `#!` line: interpreter and its one optional argument.
#[derive(Debug, PartialEq, Eq)]
pub struct Script<'a> {
    /// Path of the interpreter.
    pub interpreter: &'a [u8],
    /// What follows it on the line, spaces within included.
    pub argument: Option<&'a [u8]>,
}

/// Reads a `#!` line.
///
/// # Errors
/// ENOEXEC if the line names nothing, or is longer than Linux reads.
pub fn parse_script(head: &[u8]) -> Result<Option<Script<'_>>> {
    let Some(rest) = head.strip_prefix(b"#!") else { return Ok(None) };
    let line_end = rest.iter().position(|&b| b == b'\n');
    if line_end.is_none() && head.len() == HEAD_LEN {
        return Err(Errno::ENOEXEC); // cut off
    }
    let line = &rest[..line_end.unwrap_or(rest.len())];
    let line = line.trim_ascii();
    let blank = |b: &u8| *b == b' ' || *b == b'\t';
    let (interpreter, argument) = match line.iter().position(blank) {
        Some(at) => (&line[..at], Some(line[at..].trim_ascii_start())),
        None => (line, None),
    };
    if interpreter.is_empty() {
        return Err(Errno::ENOEXEC);
    }
    Ok(Some(Script { interpreter, argument }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn script_lines_are_read_as_linux_does() {
        let script = |line: &'static [u8]| parse_script(line);
        let expect = |interpreter, argument| Ok(Some(Script { interpreter, argument }));
        assert_eq!(script(b"#!/bin/sh\necho"), expect(b"/bin/sh" as &[u8], None));
        assert_eq!(script(b"#! /bin/sh  -e -x \n"), expect(b"/bin/sh", Some(b"-e -x" as &[u8])));
        assert_eq!(script(b"#!/bin/sh"), expect(b"/bin/sh", None));
        assert_eq!(script(b"#!  \n"), Err(Errno::ENOEXEC));
        assert_eq!(script(b"\x7fELF"), Ok(None));
        let mut cut_off = [b'a'; HEAD_LEN];
        cut_off[..2].copy_from_slice(b"#!");
        assert_eq!(parse_script(&cut_off), Err(Errno::ENOEXEC));
    }
}
