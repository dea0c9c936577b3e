//! Authentication: whatever a client says, the exchange answers, and nobody gets in without the password.
//!
//! The first byte chooses mechanism, channel bindings and whether the account exists; the rest are the client's
//! messages, one a line, sent as base64 (or as they are if the line begins with `!`).
#![no_main]

use std::num::NonZeroU32;
use std::sync::{Arc, LazyLock};

use base64::Engine as _;
use libfuzzer_sys::fuzz_target;
use whimbrel_server::proto::sasl::looks::Looks;
use whimbrel_server::proto::sasl::{
    ChannelBindings, Exchange, Mechanism, Offer, SERVER_NONCE_BYTES, Setup, SaslStep, UnknownUsers,
};
use whimbrel_storage::credentials::Credentials;

const ONE: NonZeroU32 = NonZeroU32::MIN;
const PASSWORD: &str = "correct horse battery staple";
static CREDENTIALS: LazyLock<Credentials> =
    LazyLock::new(|| Credentials::derive(PASSWORD, ONE).expect("a good password"));

fuzz_target!(|data: &[u8]| {
    let Some((&choice, rest)) = data.split_first() else { return };
    let unknown = UnknownUsers::new([7; 32], Looks::usual(ONE));
    let bindings = if choice & 0x10 == 0 {
        ChannelBindings::default()
    } else {
        ChannelBindings { tls_exporter: Some([9; 32]), tls_server_end_point: Some(Arc::from([8; 32])) }
    };
    let setup = Setup {
        mechanism: Mechanism::ALL[usize::from(choice & 7) % Mechanism::ALL.len()],
        offer: Offer {
            tls: choice & 0x20 == 0,
            bindings: !bindings.is_empty(),
            allow_plaintext: choice & 8 != 0,
        },
        domain: Arc::from("example.org"),
        bindings,
        server_nonce: [5; SERVER_NONCE_BYTES],
    };
    let found = (choice & 0x40 == 0).then(|| CREDENTIALS.clone());
    let messages = rest.split(|&b| b == b'\n').map(|line| match line.split_first() {
        Some((b'!', raw)) => String::from_utf8_lossy(raw).into_owned(),
        _ => base64::engine::general_purpose::STANDARD.encode(line),
    });
    let mut messages = messages.take(8);
    let (mut exchange, mut step) = Exchange::start(setup, &messages.next().unwrap_or_default());
    loop {
        step = match step {
            SaslStep::Challenge(_) => match messages.next() {
                Some(message) => exchange.step(&message),
                None => return,
            },
            SaslStep::NeedCredentials { .. } => exchange.credentials_found(found.as_ref(), &unknown),
            SaslStep::NeedPlainCheck { username, password } => {
                let right = found.is_some() && *password == PASSWORD;
                let verdict = unknown.plain_check(found.clone(), &username, password).run();
                assert_eq!(verdict, right, "the verdict on a password is wrong");
                exchange.plain_checked(verdict)
            }
            SaslStep::Success { username, .. } => {
                assert!(found.is_some(), "{username} got in without an account");
                assert!(exchange.is_over());
                return;
            }
            SaslStep::Failure(_) => {
                assert!(exchange.is_over());
                assert!(matches!(exchange.step(""), SaslStep::Failure(_)), "the exchange goes on after its end");
                return;
            }
        };
    }
});
