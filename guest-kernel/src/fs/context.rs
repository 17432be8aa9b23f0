//! Root, working directory and umask of a process.
/// Placeholder.
#[derive(Debug)]
pub struct FsContext;
