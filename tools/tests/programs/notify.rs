//! What the server tells its service manager, as systemd would hear it.

use std::os::unix::net::UnixDatagram;
use std::process::Command;

use crate::support::{PATIENCE, Place, Server, whimbreld};

/// The manager's end.
struct Manager(UnixDatagram);

impl Manager {
    /// The next message that is more than a sign of life, line by line.
    fn hear(&self) -> Vec<String> {
        loop {
            let lines = self.hear_any();
            if lines != ["WATCHDOG=1"] {
                return lines;
            }
        }
    }

    fn hear_any(&self) -> Vec<String> {
        let mut message = [0; 4096];
        let bytes = self.0.recv(&mut message).expect("the server tells it");
        String::from_utf8_lossy(&message[..bytes]).lines().map(str::to_owned).collect()
    }

    /// The next message must have these lines.
    #[track_caller]
    fn hears(&self, expected: &[&str]) {
        let lines = self.hear();
        for line in expected {
            assert!(lines.iter().any(|found| found.starts_with(line)), "{line}: {lines:?}");
        }
    }
}

/// A server of a manager that wants a sign of life every second.
fn start(place: &Place, config: &str) -> (Manager, Server) {
    let path = place.0.path().join("notify");
    let manager = Manager(UnixDatagram::bind(&path).expect("the folder is ours"));
    manager.0.set_read_timeout(Some(PATIENCE)).expect("a socket");
    let mut command = Command::new(whimbreld());
    command
        .arg("--data")
        .arg(place.data())
        .arg("--config")
        .arg(place.file("w.toml", config))
        .args(["--workers", "2"]);
    command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "1000000").env_remove("WATCHDOG_PID");
    (manager, Server::start(command))
}

const CONFIG: &str =
    "listen = ['127.0.0.1:0']\nlisten_tls = ['127.0.0.1:0']\nhttp.listen = []\n[limits]\ndrain_seconds = 7\n";

#[test]
fn the_manager_is_told_of_start_reload_upgrade_and_end() {
    let place = Place::new();
    let (manager, mut server) = start(&place, CONFIG);
    let process = format!("MAINPID={}", server.pid());
    manager.hears(&["READY=1", &process, "STATUS=whimbreld "]);
    assert_eq!(manager.hear_any(), ["WATCHDOG=1"], "it lives");

    assert_eq!(place.ctl(&["reload"]).code, 0);
    manager.hears(&["RELOADING=1", "MONOTONIC_USEC="]);
    manager.hears(&["READY=1"]);
    // A reload that fails is over as well.
    place.file("w.toml", "nonsense");
    assert_eq!(place.ctl(&["reload"]).code, 1);
    manager.hears(&["RELOADING=1"]);
    manager.hears(&["READY=1"]);
    // What is refused before anything stops is not told.
    assert_eq!(place.ctl(&["upgrade"]).code, 1);
    manager.hears(&["READY=1", "STATUS=not upgraded"]);

    place.file("w.toml", CONFIG);
    let done = place.ctl(&["upgrade"]);
    assert_eq!(done.code, 0, "{done:?}");
    manager.hears(&["RELOADING=1", "WATCHDOG=1", "STATUS=becoming another program"]);
    // From the new program, which is the same process.
    manager.hears(&["READY=1", &process, "WATCHDOG=1"]);
    assert_eq!(manager.hear_any(), ["WATCHDOG=1"], "it lives after an upgrade");

    server.signal("TERM");
    // The drain and half a minute more.
    manager.hears(&["STOPPING=1", "EXTEND_TIMEOUT_USEC=37000000"]);
    assert!(server.end().success());
}
