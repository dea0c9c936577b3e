//! Limits on connections: each refuses with a clear answer, is counted, and leaves the others alone.

use std::io::Read as _;

use whimbrel_server::metrics::{Cell, WorkerMetrics};

use crate::support::{Client, TestServer, on_each_driver_with};

fn sum(server: &TestServer, cell: impl Fn(&WorkerMetrics) -> &Cell) -> u64 {
    server.server.shared.metrics.iter().map(|metrics| cell(metrics).get()).sum()
}

#[test]
fn a_connection_over_a_limit_is_told_and_closed() {
    on_each_driver_with(
        |config| config.limits.sessions_per_address = 3,
        |server| {
            server.accounts(&["juliet"]);
            let mut juliet = server.login("juliet", "balcony");
            let mut two = Client::connect(server.address());
            two.open_stream("localhost");
            let mut three = Client::connect(server.address());
            three.open_stream("localhost");
            let mut four = Client::connect(server.address());
            four.expect_stream_error("resource-constraint");
            assert_eq!(sum(server, |m| &m.refused_address), 1);
            juliet.settle();
            three.cut();
            // There is room again once the server has seen the cut.
            loop {
                let mut client = Client::connect(server.address());
                client.send_header("localhost");
                if matches!(client.next(), crate::support::Said::Header)
                    && client.stanza().name() == "features"
                {
                    break;
                }
            }
        },
    );
}

#[test]
fn connections_that_do_not_log_in_do_not_take_the_places_of_those_who_do() {
    on_each_driver_with(
        |config| config.limits.sessions_unauthenticated = 2,
        |server| {
            server.accounts(&["juliet", "romeo"]);
            let mut juliet = server.login("juliet", "balcony");
            let mut romeo = server.login("romeo", "orchard");
            let (mut a, mut b) = (Client::connect(server.address()), Client::connect(server.address()));
            a.open_stream("localhost");
            b.open_stream("localhost");
            let mut c = Client::connect(server.address());
            c.expect_stream_error("resource-constraint");
            assert_eq!(sum(server, |m| &m.refused_unauthenticated), 1);
            juliet.fence(&mut romeo);
        },
    );
}

#[test]
#[cfg(target_os = "linux")]
fn one_address_does_not_hold_all_places_of_those_who_log_in() {
    on_each_driver_with(
        |config| config.limits.sessions_unauthenticated = 6,
        |server| {
            server.accounts(&["juliet"]);
            let mut held: Vec<Client> =
                (0..6).map(|_| Client::connect_from([127, 0, 50, 1], server.address())).collect();
            for client in &mut held {
                client.open_stream("localhost");
            }
            // Another one of the same address finds none, and takes none from its own.
            Client::connect_from([127, 0, 50, 1], server.address())
                .expect_stream_error("resource-constraint");
            let mut juliet = Client::connect_from([127, 0, 60, 1], server.address());
            juliet.log_in("juliet", &crate::support::server_password("juliet"), "balcony");
            juliet.settle();
            server.await_metric("refused.displaced", 1);
            assert_eq!(sum(server, |m| &m.refused_unauthenticated), 1);
            // One has gone, wherever it was accepted.
            let has_gone = |client: &Client| {
                client.socket().set_nonblocking(true).unwrap();
                let read = client.socket().read(&mut [0; 64]);
                !read.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
            };
            let since = std::time::Instant::now();
            while !held.iter().any(has_gone) {
                assert!(since.elapsed() < crate::support::PATIENCE, "none is reset");
            }
            assert_eq!(held.iter().filter(|client| has_gone(client)).count(), 1);
        },
    );
}

#[test]
fn accepting_is_paced_and_nobody_is_lost() {
    on_each_driver_with(
        |config| config.limits.accepts_per_second = 20,
        |server| {
            let mut clients: Vec<Client> = (0..45).map(|_| Client::connect(server.address())).collect();
            for client in &mut clients {
                client.open_stream("localhost");
            }
            assert!(sum(server, |m| &m.accept_rate_pauses) > 0, "the rate has bitten");
        },
    );
}

#[test]
fn a_drain_ends_streams_with_system_shutdown_and_takes_no_new_logins() {
    on_each_driver_with(
        |config| config.limits.drain_seconds = 30,
        |server| {
            server.accounts(&["juliet", "romeo"]);
            let mut juliet = server.online("juliet", "balcony");
            let mut early = Client::connect(server.address());
            early.open_stream("localhost");
            server.server.drain(false);
            // A client that is there stays until it goes; one that comes is sent away.
            juliet.settle();
            early.authenticate_plain("romeo", &crate::support::server_password("romeo"));
            // The success has begun a new stream, in which the server says why it ends.
            early.send_header("localhost");
            early.expect_stream_error("system-shutdown");
            server.server.drain(true);
            juliet.expect_stream_error("system-shutdown");
        },
    );
}
