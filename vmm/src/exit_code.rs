//! The exit codes of `vmm run`: one contract, kept for ever, the same as `env`, `timeout`, `docker run` and shells use.

#![forbid(unsafe_code)]

/// `--timeout` was over before the program ended.
pub const TIMED_OUT: u8 = 124;
/// The VMM could not set up the machine, or could not go on; also a wrong command line.
pub const VMM_FAILED: u8 = 125;
/// The program was found but cannot be executed.
pub const NOT_EXECUTABLE: u8 = 126;
/// The program was not found.
pub const NOT_FOUND: u8 = 127;
/// The guest kernel panicked, or the virtual CPU gave up.
pub const GUEST_CRASHED: u8 = 255;

/// The code of a program that `signal` killed: 128 + the signal's number.
pub const fn killed_by(signal: u8) -> u8 {
    128 | (signal & 0x7f)
}

/// The table for people, as `--help` shows it.
pub const TABLE: &str = "\
  0 to 255  the program's own exit code, except that
  124       --timeout was over before the program ended
  125       the VMM could not set up the machine or go on, or the command line is wrong
  126       PROGRAM was found but cannot be executed
  127       PROGRAM was not found
  128+N     signal N killed the program (139: SIGSEGV, 143: SIGTERM)
  255       the guest kernel panicked or the virtual CPU gave up
A line on standard error tells these from a program that ends with the same code.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_map_as_in_a_shell() {
        assert_eq!(killed_by(11), 139);
        assert_eq!(killed_by(15), 143);
        assert_eq!(killed_by(64), 192);
    }
}
