//! What a server shows by itself, and connections that are let in or not.

use std::io::Write;
use std::net::TcpStream;
use std::os::fd::AsRawFd;

use super::{PLAIN, Verona};
use crate::counters::stage::Step;
use crate::support::{Client, server_password};

/// The steps.
pub(super) const STEPS: &[Step<Verona>] = &[
    Step {
        what: "a server has started",
        act: |stage, _| stage.count_from_zero(),
        moves: &[
            "loop.iterations",
            "loop.events",
            "loop.busy",
            "loop.longest",
            "loop.latency",
            "loop.events_per_wakeup",
            "queue.completions.limit",
            "queue.commands.limit",
            "queue.newcomers.limit",
            "queue.mailbox.limit",
            "queue.mailbox_bytes.limit",
            "queue.mailbox_recipients.limit",
            "queue.commit.limit",
            "queue.output.limit",
            "queue.held.limit",
            "queue.directory.limit",
            "queue.crypto.limit",
            "queue.archive.limit",
            "queue.upkeep.limit",
            "server.allocator.in_use",
            "server.allocator.allocations",
            "memory.budget",
            "server.seen",
            "server.uptime",
            "server.version",
            "tls.certificate.expires",
            "server.cpu.user",
            "server.cpu.system",
            "server.faults.minor",
            "server.switches.voluntary",
            "server.switches.involuntary",
            "server.memory.peak",
        ],
        ..PLAIN
    },
    Step {
        what: "a connection waits to log in",
        act: |stage, server| {
            let mut client = Client::connect(server.address());
            client.open_stream("localhost");
            stage.until("server.unauthenticated");
        },
        moves: &["server.unauthenticated"],
        ..PLAIN
    },
    Step {
        what: "a client comes by TLS, and another sends what is none",
        act: |stage, server| {
            let mut client = Client::connect_tls(server.tls_address(), &server.certificate());
            client.log_in("juliet", &server_password("juliet"), "balcony");
            stage.until("tls_sessions");
            let mut other = TcpStream::connect(server.tls_address()).unwrap();
            other.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
            stage.until("tls.failures");
        },
        moves: &["tls_sessions", "tls.handshakes", "tls.failures"],
        ..PLAIN
    },
    Step {
        what: "one connection too many",
        configure: |config| config.limits.sessions = 1,
        act: |stage, server| {
            let _one = server.login("juliet", "balcony");
            let _two = Client::connect(server.address());
            stage.until("refused.sessions");
        },
        moves: &["refused.sessions"],
        ..PLAIN
    },
    Step {
        what: "one connection too many that has not logged in",
        configure: |config| config.limits.sessions_unauthenticated = 1,
        act: |stage, server| {
            let _waiting = [Client::connect(server.address()), Client::connect(server.address())];
            stage.until("refused.sessions_unauthenticated");
        },
        moves: &["refused.sessions_unauthenticated"],
        ..PLAIN
    },
    Step {
        what: "one address holds the places that another needs",
        configure: |config| config.limits.sessions_unauthenticated = 6,
        act: |stage, server| {
            let _held: Vec<Client> =
                (0..6).map(|_| Client::connect_from([127, 0, 50, 1], server.address())).collect();
            stage.until("server.unauthenticated");
            let mut juliet = Client::connect_from([127, 0, 60, 1], server.address());
            juliet.log_in("juliet", &server_password("juliet"), "balcony");
            stage.until("refused.displaced");
        },
        moves: &["refused.displaced"],
        ..PLAIN
    },
    Step {
        what: "an address connects faster than it may",
        configure: |config| config.limits.accepts_per_second_per_address = 2,
        act: |stage, server| {
            stage.until_with("refused.accepts_per_address", || {
                let _clients: Vec<Client> = (0..20).map(|_| Client::connect(server.address())).collect();
            });
        },
        moves: &["refused.accepts_per_address"],
        ..PLAIN
    },
    Step {
        what: "one connection too many from one address",
        configure: |config| config.limits.sessions_per_address = 1,
        act: |stage, server| {
            let _waiting = [Client::connect(server.address()), Client::connect(server.address())];
            stage.until("refused.sessions_per_address");
        },
        moves: &["refused.sessions_per_address"],
        ..PLAIN
    },
    Step {
        what: "connections come faster than they are taken",
        configure: |config| config.limits.accepts_per_second = 10,
        act: |stage, server| {
            stage.until_with("accept.rate_pauses", || {
                let _clients: Vec<Client> = (0..30).map(|_| Client::connect(server.address())).collect();
            });
        },
        moves: &["accept.rate_pauses"],
        ..PLAIN
    },
    Step {
        what: "the operator asks for a drain",
        configure: |config| config.limits.drain_seconds = 30,
        act: |stage, server| {
            let _juliet = server.online("juliet", "balcony");
            server.server.drain(false);
            stage.until("server.draining");
            stage.until("queue.commands.high_water");
        },
        moves: &["server.draining", "queue.commands.high_water"],
        ..PLAIN
    },
    Step {
        what: "memory is short",
        act: |stage, server| {
            let shared = &server.server.shared;
            let mut config = (**shared.config.read().unwrap()).clone();
            // Less than any program uses.
            config.limits.memory_mib = 1;
            *shared.config.write().unwrap() = config.into();
            stage.until("memory.pressure");
            stage.until_with("refused.memory", || drop(Client::connect(server.address())));
        },
        moves: &["memory.pressure", "refused.memory"],
        ..PLAIN
    },
    Step {
        what: "a silent client answers a ping",
        configure: |config| config.limits.idle_seconds = 1,
        act: |stage, server| {
            let mut juliet = server.login("juliet", "balcony");
            let ping = juliet.expect("iq");
            let id = ping.attribute("id").unwrap();
            juliet.send(&format!("<iq type='result' id='{id}' to='localhost'/>"));
            stage.until("pings.answered");
        },
        moves: &["pings.sent", "pings.answered"],
        ..PLAIN
    },
    Step {
        what: "a login takes too long",
        configure: |config| config.limits.preauth_seconds = 1,
        act: |stage, server| {
            let _silent = Client::connect(server.address());
            stage.until("refused.preauth_seconds");
        },
        moves: &["refused.preauth_seconds"],
        ..PLAIN
    },
    Step {
        what: "a login has too many bytes",
        act: |stage, server| {
            let mut client = Client::connect(server.address());
            client.open_stream("localhost");
            let _ = client.socket().write_all(" ".repeat(11 * 1024).as_bytes());
            stage.until("refused.preauth_bytes");
        },
        moves: &["refused.preauth_bytes"],
        ..PLAIN
    },
    Step {
        what: "a page is read that only the disk has",
        act: |stage, _| stage.until_with("server.faults.major", read_from_disk),
        moves: &["server.faults.major"],
        ..PLAIN
    },
];

/// Maps a file that is not in memory, and reads it. The server is of this process.
fn read_from_disk() {
    // Where the programs are built there is a disk; the folder for temporary files may be memory.
    let mut file = tempfile::tempfile_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    file.write_all(&vec![1; 1 << 20]).unwrap();
    file.sync_all().unwrap();
    // SAFETY: it takes a descriptor and numbers.
    unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
    // SAFETY: nobody else has the file, so nobody changes or shortens it.
    let map = unsafe { memmap2::Mmap::map(&file) }.unwrap();
    assert_eq!(map.iter().map(|byte| u64::from(*byte)).sum::<u64>(), 1 << 20);
}
