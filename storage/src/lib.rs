//! What Whimbrel keeps on disk: the directory of accounts and rosters.
#![warn(missing_docs)]
