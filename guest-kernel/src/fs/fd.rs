//! The table of open files.
/// Placeholder.
#[derive(Debug)]
pub struct FdTable;
