//! What happens to a process: it is upgraded, and started again on another directory. It takes the real program.

use std::fs;
use std::net::TcpListener;

use whimbrel_storage::directory::run_inline;

use crate::support::Client;
use crate::support::managed::chat;
use crate::support::program::{Program, Start};

pub(super) const WHAT: &str = "upgrades and restarts of the program";

/// What they move.
pub(super) const MOVES: &[&str] = &[
    "upgrade.count",
    "upgrade.failed",
    "upgrade.pause",
    "upgrade.sessions",
    "upgrade.closed",
    "log.orphans",
    "server.reloads",
];

#[test]
fn upgrades_and_restarts_move_what_they_say() {
    let start = Start::new(&["juliet", "romeo"]);
    let program = start.run();
    let figures = |program: &Program| {
        let figures = program.figures();
        MOVES.iter().map(move |name| (*name, figures[*name])).collect::<Vec<_>>()
    };
    assert!(figures(&program).iter().all(|(_, figure)| *figure == 0), "{:?}", figures(&program));
    let mut romeo = program.login("romeo", "orchard");
    romeo.send(&chat("juliet@localhost", 1));
    romeo.settle();
    // The new program finds an address taken, and gives up.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let config = fs::read_to_string(start.config()).unwrap();
    let more = format!("['{}', '127.0.0.1:0']", taken.local_addr().unwrap());
    fs::write(start.config(), config.replacen("['127.0.0.1:0']", &more, 1)).unwrap();
    let refused = program.control(&serde_json::json!({ "request": "upgrade" }));
    assert_eq!(refused["ok"], false, "{refused}");
    drop(taken);
    romeo.settle();
    // In the middle of a login, which cannot be carried over.
    let mut half = Client::connect(program.address());
    half.open_stream("localhost");
    half.send("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='SCRAM-SHA-256'>biwsbj1yb21lbyxyPWE=</auth>");
    assert_eq!(half.stanza().name(), "challenge");
    let upgraded = program.control(&serde_json::json!({ "request": "upgrade" }));
    assert_eq!(upgraded["ok"], true, "{upgraded}");
    romeo.settle();
    let reloaded = program.control(&serde_json::json!({ "request": "reload" }));
    assert_eq!(reloaded["ok"], true, "{reloaded}");
    for (name, figure) in figures(&program) {
        assert_eq!(figure == 0, name == "log.orphans", "{name} is {figure} after {upgraded}");
    }

    program.stop();
    let gone = Box::new(|transaction: &mut whimbrel_storage::directory::WriteTransaction<'_>| {
        transaction.delete_account("juliet")
    });
    assert!(run_inline(&start.directory(), gone).unwrap());
    let program = start.run();
    assert_eq!(program.figures()["log.orphans"], 1);
}
