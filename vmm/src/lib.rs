//! The VMM as a library: what `vmm run` does, for programs that want to do it themselves.
//!
//! Data flows one way: [`cli`] turns flags into a [`config::Config`]; `vm` builds the machine from it in
//! order; the run loop answers exits until the guest ends; [`stats`] tells what happened.

pub mod config;
pub mod program;
pub mod root;
