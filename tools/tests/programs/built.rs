//! Programs of other packages, which cargo does not build for the tests of this one.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A program of the workspace, built in the profile of one of ours and beside it.
pub(crate) fn built(ours: &Path, program: &str) -> PathBuf {
    let path = ours.with_file_name(program);
    let profile = path.parent().and_then(Path::file_name).expect("it lies in the profile's folder");
    let profile = if profile == "debug" { "dev".as_ref() } else { profile };
    let mut cargo = Command::new(env!("CARGO"));
    // Build scripts that look at what this cargo says of this package would run again, and all that needs them.
    let told = |name: &str| ["CARGO_PKG_", "CARGO_MANIFEST_"].iter().any(|prefix| name.starts_with(prefix));
    for (name, _) in std::env::vars_os().filter(|(name, _)| told(&name.to_string_lossy())) {
        cargo.env_remove(name);
    }
    let built = cargo
        // Of the whole workspace, and with examples, which have the dependencies of tests: with fewer packages or without these,
        // dependencies would have other features, and they and all that needs them would be built anew.
        .args(["build", "--quiet", "--workspace", "--bin", program, "--examples", "--profile"])
        .arg(profile)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()
        .expect("cargo runs");
    assert!(built.success(), "{program} cannot be built");
    path
}
