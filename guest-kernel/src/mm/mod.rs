//! Memory: addresses, frames, heap, page tables, address spaces, faults, user pointers.

pub mod addr;
pub mod frame;
pub mod user;
