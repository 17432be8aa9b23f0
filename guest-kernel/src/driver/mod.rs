//! Drivers: the stdio doorbell is the only device that needs one; COM1 takes plain writes (`arch`).

pub mod stdio;
