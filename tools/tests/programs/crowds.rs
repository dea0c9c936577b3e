//! Many connections at once: those who do nothing do not hold up those who work, and running out of file
//! descriptors is survived.

use std::net::TcpStream;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use crate::support::{Client, Place, Server, whimbreld};

/// Connections that never log in. Both ends need a descriptor, each in its own process.
const HALF_OPEN: usize = 10_000;

/// Descriptors of the server that is to run out of them.
const DESCRIPTORS: u64 = 64;

fn place_with_accounts() -> Place {
    let place = Place::new();
    for name in ["alice@localhost", "bob@localhost"] {
        assert_eq!(place.ctl(&["user", "add", "--create", name, "--password", "p"]).code, 0);
    }
    place
}

/// Sets the limit of open files of the calling process; async-signal-safe.
fn limit_descriptors(limit: u64) -> std::io::Result<()> {
    let limit = libc::rlimit { rlim_cur: limit, rlim_max: limit };
    // SAFETY: the struct lives during the call, and the call touches nothing else.
    if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } == 0 {
        Ok(())
    } else {
        Err(std::io::Error::last_os_error())
    }
}

/// Raises this process's soft limit of open files to the hard one; the limit then.
fn raise_descriptors() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the struct lives during both calls.
    unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit);
        limit.rlim_cur = limit.rlim_max;
        libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
    }
    limit.rlim_cur
}

#[test]
fn ten_thousand_half_open_connections_beside_working_sessions() {
    let limit = raise_descriptors();
    assert!(
        limit > HALF_OPEN as u64 + 500,
        "this test needs more open files than {limit}: raise `ulimit -Hn`"
    );
    for driver in if cfg!(target_os = "linux") { &["mio", "uring"][..] } else { &["mio"][..] } {
        let place = place_with_accounts();
        let _server = place.server(&["--allow-plaintext", "--driver", driver]);
        let mut alice = Client::login(&place, "alice", "p", "r").expect("the password is right");
        let address = place.address();
        let crowd: Vec<TcpStream> = (0..HALF_OPEN)
            .map(|n| TcpStream::connect(&address).unwrap_or_else(|e| panic!("{n}: {e}")))
            .collect();
        let mut bob = Client::login(&place, "bob", "p", "r").expect("a login goes on beside them");
        bob.say("<message to='alice@localhost/r' type='chat'><body>still there?</body></message>");
        alice.hear("still there?");
        drop(crowd);
    }
}

#[test]
fn a_server_without_descriptors_turns_clients_away_says_so_and_goes_on() {
    for driver in if cfg!(target_os = "linux") { &["mio", "uring"][..] } else { &["mio"][..] } {
        let place = place_with_accounts();
        let mut command = Command::new(whimbreld());
        command.arg("--data").arg(place.data()).args([
            "--listen",
            "127.0.0.1:0",
            "--listen-tls",
            "127.0.0.1:0",
            "--listen-http",
            "none",
        ]);
        command.args(["--workers", "1", "--allow-plaintext", "--driver", driver]);
        // SAFETY: the closure makes one system call between fork and exec.
        unsafe { command.pre_exec(|| limit_descriptors(DESCRIPTORS)) };
        let mut server = Server::start(command);
        let mut alice = Client::login(&place, "alice", "p", "r").expect("the password is right");
        let address = place.address();
        let crowd: Vec<_> = (0..2 * DESCRIPTORS).filter_map(|_| TcpStream::connect(&address).ok()).collect();
        server.wait_for_log("cannot accept connections");
        alice.say("<iq type='get' id='p' to='localhost'><ping xmlns='urn:xmpp:ping'/></iq>");
        alice.hear("id='p'");
        drop(crowd);
        // There is room again, as soon as the server has seen that they are gone.
        while Client::login_at(&address, "bob", "p", "r").is_err() {}
    }
}
