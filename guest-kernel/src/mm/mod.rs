//! Memory: addresses, frames, heap, page tables, address spaces, faults, user pointers.
//!
//! * [`frame`]: physical memory, with the rules of ownership and of the TLB; [`heap`] above it.
//! * [`space`]: an address space: [`vma`] is what the program asked for, [`page_table`] what is mapped of
//!   it; `fault` makes the one into the other.
//! * [`user`]: the program's memory as the kernel may touch it; [`image`]: the root image's.
//! * [`call`]: mmap and its kin. [`addr`]: the types of addresses.

pub mod addr;
pub mod call;
mod fault;
pub mod frame;
pub mod heap;
pub mod image;
pub mod page_table;
pub mod space;
pub mod user;
pub mod vma;
