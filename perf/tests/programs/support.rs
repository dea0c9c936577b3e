//! What the tests of `whimbrel-perf` share.

use std::process::{Command, Output};

/// Runs `whimbrel-perf`.
pub(crate) fn perf(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_whimbrel-perf")).args(args).output().expect("the program starts")
}

/// Exit code and standard error, for messages of failed tests.
pub(crate) fn told(output: &Output) -> (Option<i32>, String) {
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// The JSON report on standard output.
pub(crate) fn report(output: &Output) -> serde_json::Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        panic!("no JSON report: {error}; {:?}; {}", told(output), String::from_utf8_lossy(&output.stdout))
    })
}
