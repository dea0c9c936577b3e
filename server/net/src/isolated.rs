//! Tests that change their process (limits, users) run in one of their own.

use std::process::Command;

const MARK: &str = "WHIMBREL_ISOLATED_TEST";

/// Runs `body` in a new process: the test program again, with this one test. `name` is the test's full path.
pub(crate) fn run(name: &str, body: impl FnOnce()) {
    if std::env::var_os(MARK).is_some_and(|value| value == name) {
        body();
        return;
    }
    let program = std::env::current_exe().unwrap();
    let output = Command::new(program)
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(MARK, name)
        .output()
        .unwrap();
    let printed =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{printed}");
    // A wrong name runs nothing and succeeds.
    assert!(printed.contains("1 passed"), "{name} is not the test's path: {printed}");
}
