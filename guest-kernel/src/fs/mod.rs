//! The VFS and its file systems.
//!
//! * [`inode`]: what a file system implements; [`mod@file`]: what is open; [`fd`]: the table of it.
//! * [`path`]: from a string to an inode, over [`mount`]s, from a process's [`context`], as its
//!   [`permission`]s allow.
//! * [`memfs`]: files in memory, alone (/tmp, /dev) or as the writable layer over [`erofs`], the root.
//! * [`devfs`], [`device`], [`pipe`], [`stream`], [`terminal`]: open files that are not bytes in a file system.
//! * [`procfs`] is /proc.
//! * System calls: [`open`], [`io`], [`transfer`], [`stat`], [`name`], [`attribute`], [`control`],
//!   [`poll`]. Each takes typed arguments and gives `Result<usize>`.
//! * [`setup`]: the tree that a machine starts with.

#![forbid(unsafe_code)]

pub mod abi;
pub mod attribute;
#[cfg(test)]
mod call_test;
pub mod context;
pub mod control;
pub mod devfs;
pub mod device;
pub mod erofs;
pub mod erofs_directory;
pub mod erofs_format;
#[cfg(test)]
mod erofs_test;
pub mod fd;
pub mod file;
pub mod inode;
pub mod io;
pub mod memfs;
pub mod mount;
pub mod name;
pub mod open;
pub mod path;
pub mod permission;
pub mod pipe;
pub mod poll;
pub mod procfs;
pub mod setup;
pub mod stat;
pub mod stream;
pub mod terminal;
pub mod transfer;
pub mod tty;
mod tty_screen;
#[cfg(test)]
mod tty_test;
