//! The VFS and its file systems.

pub mod context;
pub mod fd;
