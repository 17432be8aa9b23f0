//! x86-64.

mod fpu;

pub use fpu::{fpu_restore, fpu_save};
