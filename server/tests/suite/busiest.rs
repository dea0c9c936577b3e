//! The accounts and addresses that cause most, as the server tells them in a file.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;
use whimbrel_server::watch::busiest::FILE_NAME;

use crate::support::managed::chat;
use crate::support::program::Start;
use crate::support::{Client, PATIENCE};

/// The rows of a table: names and figures.
fn rows(data: &Path, of: &str, by: &str) -> Vec<(String, f64)> {
    let text = std::fs::read_to_string(data.join(FILE_NAME)).unwrap_or_default();
    let told: Value = serde_json::from_str(&text).unwrap_or_default();
    let mut tables = told["tables"].as_array().into_iter().flatten();
    let found = tables.find(|table| table["of"] == of && table["by"] == by);
    let rows = found.and_then(|table| table["rows"].as_array()).cloned().unwrap_or_default();
    let row = |row: &Value| (row["name"].as_str().unwrap().to_owned(), row["figure"].as_f64().unwrap());
    rows.iter().map(row).collect()
}

#[test]
fn the_busiest_accounts_and_addresses_are_told() {
    let start = Start::new(&["juliet", "romeo"]);
    let program = start.run();
    let mut juliet = program.login("juliet", "balcony");
    let mut romeo = program.login("romeo", "orchard");
    romeo.send("<presence/>");
    let mut guess = Client::connect(program.address());
    guess.open_stream("localhost");
    // Nobody's password: \0juliet\0wrong.
    guess
        .send("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>AGp1bGlldAB3cm9uZw==</auth>");
    assert_eq!(guess.stanza().name(), "failure");
    let data = start.data();
    let since = Instant::now();
    let mut open = vec!["messages", "bytes", "failed"];
    // Three of four messages are Juliet's. A window is told when it is over, so they go on until one is.
    while !open.is_empty() {
        assert!(since.elapsed() < PATIENCE, "never told: {open:?}");
        (0..3).for_each(|n| juliet.send(&chat("romeo@localhost", n)));
        romeo.send(&chat("juliet@localhost", 4));
        juliet.settle();
        romeo.settle();
        std::thread::sleep(Duration::from_millis(20));
        open.retain(|by| {
            let (accounts, addresses) = (rows(&data, "accounts", by), rows(&data, "addresses", by));
            let names: Vec<&str> = accounts.iter().map(|(name, _)| name.as_str()).collect();
            let wanted: &[&str] = if *by == "failed" {
                &["juliet@localhost"]
            } else {
                &["juliet@localhost", "romeo@localhost"]
            };
            let sum: f64 = accounts.iter().map(|(_, figure)| figure).sum();
            let told = names == wanted && addresses.len() == 1 && addresses[0].0 == "127.0.0.1";
            // Bytes before the login are an address's, but no account's.
            !(told && addresses[0].1 >= sum * 0.999)
        });
    }
    // A client that does not read.
    let mut slow = program.login("romeo", "tower");
    slow.send("<presence><priority>5</priority></presence>");
    slow.settle();
    let flood = chat("romeo@localhost/tower", 1).replace("<body>", &format!("<body>{}", "x".repeat(8000)));
    // Juliet's own answers may wait for a moment, too, and be told first.
    let most = |of| rows(&data, of, "backlog").first().map(|(name, _)| name.clone());
    while most("accounts").as_deref() != Some("romeo@localhost") {
        assert!(since.elapsed() < 3 * PATIENCE, "no backlog of Romeo's was told");
        (0..20).for_each(|_| juliet.send(&flood));
        juliet.settle();
    }
    assert_eq!(most("addresses").as_deref(), Some("127.0.0.1"));
    // Names are for the server's user and group.
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(data.join(FILE_NAME)).unwrap().permissions(),
    );
    assert_eq!(mode & 0o777, 0o640);
}
