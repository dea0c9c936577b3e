//! Passwords, wrong and right, and accounts.

use super::{PLAIN, Verona};
use crate::counters::stage::{Stage, Step};
use crate::support::answers::outcome;
use crate::support::{Client, server_password};

const SASL: &str = "urn:ietf:params:xml:ns:xmpp-sasl";

/// The steps.
pub(super) const STEPS: &[Step<Verona>] = &[
    Step {
        what: "a wrong password, and XML that is none",
        act: |_, server| {
            let mut client = Client::connect(server.address());
            client.open_stream("localhost");
            assert_eq!(client.authenticate_plain("juliet", "wrong").name(), "failure");
            client.send("<a><b></a>");
            client.expect_some_stream_error();
        },
        moves: &[
            "logins.failed",
            "logins.failed.credentials",
            "login.remembered",
            "stream_errors",
            "refused.framing",
        ],
        ..PLAIN
    },
    Step {
        what: "logins are given up, again and again, and one asks for what there is not",
        configure: |config| config.limits.sasl_attempts = 255,
        act: |stage, server| {
            let mut client = Client::connect(server.address());
            client.open_stream("localhost");
            client.send(&format!("<auth xmlns='{SASL}' mechanism='X-NONE'/>"));
            let aborts = format!("<abort xmlns='{SASL}'/>").repeat(20);
            let mut left = 10;
            stage.until_with("logins.unlogged", || {
                if left > 0 {
                    left -= 1;
                    client.send(&aborts);
                }
            });
        },
        moves: &["logins.failed.protocol", "logins.failed.aborted", "logins.unlogged"],
        ..PLAIN
    },
    Step {
        what: "more wrong passwords than are borne",
        configure: |config| {
            config.limits.sasl_attempts = 1;
            config.limits.guesses_per_address_and_account = 3;
            config.limits.preauth_seconds = 3;
        },
        act: |stage, server| {
            stage.until_with("refused.login_throttle", || {
                let mut client = Client::connect(server.address());
                client.open_stream("localhost");
                client.authenticate_plain("juliet", "wrong");
            });
        },
        moves: &["refused.login_throttle", "logins.waited"],
        ..PLAIN
    },
    Step {
        what: "one wrong password after another",
        act: |stage, server| {
            stage.until_with("logins.delayed", || {
                let mut client = Client::connect(server.address());
                client.open_stream("localhost");
                client.authenticate_plain("juliet", "wrong");
            });
        },
        moves: &["logins.delayed"],
        ..PLAIN
    },
    Step {
        what: "one resource too many",
        configure: |config| config.limits.resources_per_user = 1,
        act: |_, server| {
            let _one = server.login("juliet", "one");
            let mut two = Client::connect(server.address());
            two.open_stream("localhost");
            assert_eq!(two.authenticate_plain("juliet", &server_password("juliet")).name(), "success");
            two.open_stream("localhost");
            let bind = "<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>two</resource></bind>";
            assert_eq!(outcome(&two.ask("set", None, bind)), "resource-constraint");
        },
        moves: &["refused.resources_per_user"],
        ..PLAIN
    },
    Step {
        what: "a roster, a block list and an hour of registrations are full",
        configure: |config| {
            config.auth.open_registration = true;
            config.limits.roster_items = 1;
            config.limits.blocked_jids = 1;
            config.limits.registrations_per_hour = 1;
        },
        act: fill_accounts,
        moves: &[
            "registrations",
            "refused.registrations_per_hour",
            "refused.roster",
            "refused.account_limits",
        ],
        ..PLAIN
    },
    Step {
        what: "guesses at more accounts than are remembered",
        act: |stage, server| {
            let mut numbers = 0_u32..;
            stage.until_with("login.driven_out", || {
                // As the server counts a guess. Over a socket it would take an hour of them.
                let mut throttle = server.server.shared.throttle();
                for number in numbers.by_ref().take(2_000) {
                    let [_, a, b, c] = number.to_be_bytes();
                    let _ = throttle.begin(&format!("name{number}"), [10, a, b, c].into(), 0);
                }
            });
        },
        moves: &["login.driven_out"],
        ..PLAIN
    },
];

fn fill_accounts(_: &mut Stage<'_>, server: &Verona) {
    let mut juliet = server.login("juliet", "balcony");
    let add = "<query xmlns='jabber:iq:roster'><item jid='tybalt@localhost'/></query>";
    assert_eq!(outcome(&juliet.ask("set", None, add)), "resource-constraint");
    let block = "<block xmlns='urn:xmpp:blocking'><item jid='a@localhost'/><item jid='b@localhost'/></block>";
    assert_eq!(outcome(&juliet.ask("set", None, block)), "resource-constraint");
    let mut romeo = server.login("romeo", "orchard");
    romeo.send("<presence type='subscribe' to='tybalt@localhost'/>");
    romeo.settle();
    for (name, expected) in [("tybalt", "result"), ("paris", "resource-constraint")] {
        let mut client = Client::connect(server.address());
        client.open_stream("localhost");
        let form = format!(
            "<query xmlns='jabber:iq:register'><username>{name}</username><password>a password</password></query>"
        );
        assert_eq!(outcome(&client.ask("set", None, &form)), expected);
    }
}
