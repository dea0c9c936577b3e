//! What the directory promises.

mod accounts;
mod counts;
mod damage;
mod format;
mod import;
mod limits;
mod nodes;
mod opening;
mod pubsub;
mod push;
mod readers;
mod registration;
mod reopen;
mod rooms;
mod roster;
mod roster_model;
mod uploads;
mod writer;

use std::path::Path;

use tempfile::TempDir;

use super::*;
use crate::credentials::{Credentials, SALT_BYTES};

const DOMAIN: &str = "example.org";

/// Keys of a password, with one round: tests make many.
fn keys(password: &str) -> Credentials {
    let iterations = std::num::NonZeroU32::new(1).expect("1 is not zero");
    Credentials::derive_with_salt(password, iterations, &[7; SALT_BYTES]).expect("a fine password")
}

/// Not synced: these tests are not about power cuts.
fn options() -> Options {
    Options { domain: DOMAIN.into(), map_bytes_max: 64 << 20, durable: false, incarnation: None }
}

fn open(path: &Path) -> Directory {
    Directory::open(path, &options()).expect("a directory opens")
}

fn new_directory() -> (TempDir, Directory) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let directory = open(&folder.path().join("directory"));
    (folder, directory)
}

/// Runs a job that must succeed.
fn write<C: Send + 'static>(
    directory: &Directory,
    job: impl FnOnce(&mut WriteTransaction<'_>) -> Result<C, DirectoryError> + Send + 'static,
) -> C {
    run_inline(directory, Box::new(job)).expect("the change is written")
}

fn add_account(directory: &Directory, local: &str) {
    let local = local.to_owned();
    assert!(write(directory, move |t| t.create_account(&local, &keys("secret"))), "a new account");
}

/// A text of so many bytes that begins like all others of this function.
fn long(bytes: usize, end: &str) -> String {
    format!("{}{end}", "x".repeat(bytes - end.len()))
}

/// Rows of a table.
fn rows(directory: &Directory, table: tables::Table) -> u64 {
    let held = directory.0.handle.hold().unwrap();
    held.tables.of(table).len(&held.env.read_txn().unwrap()).unwrap()
}
