//! tokio-xmpp, a stock Rust client with a parser and a TLS and SASL path of its own: log in over STARTTLS and
//! direct TLS, on each driver, talk, and read what was said in the archive (XEP-0313).
#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::str::FromStr as _;
use std::time::Duration;

use futures_util::StreamExt as _;
use tempfile::TempDir;
use tokio_xmpp::connect::{DirectTlsServerConnector, DnsConfig, StartTlsServerConnector};
use tokio_xmpp::jid::{BareJid, Jid};
use tokio_xmpp::parsers::data_forms::{DataForm, DataFormType, Field};
use tokio_xmpp::parsers::iq::Iq;
use tokio_xmpp::parsers::mam::{Fin, Query, QueryId, Result_};
use tokio_xmpp::parsers::message::{Lang, Message, MessageType};
use tokio_xmpp::parsers::presence::{Presence, Type as PresenceType};
use tokio_xmpp::parsers::rsm::SetQuery;
use tokio_xmpp::xmlstream::Timeouts;
use tokio_xmpp::{Client, Event, Stanza};
use whimbrel_server::boot::Server;
use whimbrel_server::config::{Config, DriverChoice, HttpConfig};
use whimbrel_storage::credentials::Credentials;
use whimbrel_storage::directory::run_inline;

const PATIENCE: Duration = Duration::from_secs(60);
const PASSWORD: &str = "wherefore art thou";

fn start(driver: DriverChoice, data: &TempDir) -> Server {
    let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
    let config = Config {
        data: data.path().to_owned(),
        listen: vec![loopback],
        listen_tls: vec![loopback],
        http: HttpConfig { listen: Vec::new(), ..HttpConfig::default() },
        workers: 2,
        driver,
        pin_workers: false,
        directory_gib_max: 1,
        ..Config::default()
    };
    let server = Server::start(config).unwrap_or_else(|error| panic!("no server: {error}"));
    for name in ["juliet", "romeo"] {
        let credentials = Credentials::derive(PASSWORD, NonZeroU32::new(4096).unwrap()).unwrap();
        let made =
            run_inline(&server.shared.directory, Box::new(move |t| t.create_account(name, &credentials)));
        assert!(made.unwrap());
    }
    server
}

async fn next(client: &mut Client) -> Event {
    let event = tokio::time::timeout(PATIENCE, client.next()).await.expect("an event in time");
    event.expect("the client goes on")
}

/// Logs in and sends presence.
async fn online(client: &mut Client) -> Jid {
    loop {
        if let Event::Online { bound_jid, .. } = next(client).await {
            client.send_stanza(Presence::new(PresenceType::None).into()).await.unwrap();
            return bound_jid;
        }
    }
}

async fn message(client: &mut Client) -> Message {
    loop {
        if let Event::Stanza(Stanza::Message(message)) = next(client).await {
            return message;
        }
    }
}

fn chat(to: Jid, text: &str) -> Stanza {
    let mut message = Message::new_with_type(MessageType::Chat, Some(to));
    message.bodies.insert(Lang::from(""), text.to_owned());
    message.into()
}

/// A page of the archive: what was said to or by somebody after a message. Returns texts, and the id of the last of them unless
/// the archive has no more.
async fn page(client: &mut Client, with: &str, after: Option<String>) -> (Vec<String>, Option<String>) {
    let form = DataForm::new(DataFormType::Submit, "urn:xmpp:mam:2", vec![Field::text_single("with", with)]);
    let set = SetQuery { max: Some(2), after, before: None, index: None };
    let query = QueryId("q".into());
    let query =
        Query { queryid: Some(query), node: None, form: Some(form), set: Some(set), flip_page: false };
    client.send_stanza(Iq::from_set("page", query).into()).await.unwrap();
    let mut texts = Vec::new();
    loop {
        match next(client).await {
            Event::Stanza(Stanza::Message(message)) => {
                let results =
                    message.payloads.into_iter().filter_map(|payload| Result_::try_from(payload).ok());
                for result in results {
                    assert_eq!(result.queryid, Some(QueryId("q".into())));
                    texts.extend(result.forwarded.message.bodies.into_values());
                }
            }
            Event::Stanza(Stanza::Iq(Iq::Result { id, payload: Some(payload), .. })) if id == "page" => {
                let fin = Fin::try_from(payload).unwrap();
                return (texts, fin.set.last.filter(|_| !fin.complete));
            }
            Event::Stanza(Stanza::Iq(Iq::Error { id, error, .. })) if id == "page" => panic!("{error:?}"),
            _ => {}
        }
    }
}

/// All that the archive has of a conversation, through all its pages.
async fn history(client: &mut Client, with: &str) -> Vec<Vec<String>> {
    let mut pages = Vec::new();
    let mut after = None;
    loop {
        let (texts, last) = page(client, with, after).await;
        pages.push(texts);
        match last {
            Some(last) => after = Some(last),
            None => return pages,
        }
    }
}

#[test]
fn tokio_xmpp_talks_over_starttls_and_direct_tls() {
    let drivers: &[DriverChoice] = if cfg!(target_os = "linux") {
        &[DriverChoice::Mio, DriverChoice::Uring]
    } else {
        &[DriverChoice::Mio]
    };
    let servers: Vec<(TempDir, Server)> = drivers
        .iter()
        .map(|&driver| {
            let data = tempfile::tempdir().unwrap();
            let server = start(driver, &data);
            (data, server)
        })
        .collect();
    let trusted = tempfile::NamedTempFile::new().unwrap();
    let certificates = servers.iter().map(|(data, _)| data.path().join("tls").join("self-signed.pem"));
    let bundle: String = certificates.map(|path| std::fs::read_to_string(path).unwrap()).collect();
    std::fs::write(trusted.path(), bundle).unwrap();
    // SAFETY: the servers' threads read no environment variables, and this is the only test of this process.
    unsafe { std::env::set_var("SSL_CERT_FILE", trusted.path()) };
    rustls::crypto::ring::default_provider().install_default().unwrap();

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for (_, server) in &servers {
        runtime.block_on(talk(server));
    }
    for (_, server) in servers {
        server.drain(true);
        server.join().expect("no worker fails");
    }
}

async fn talk(server: &Server) {
    let jid = |name: &str| Jid::from(BareJid::from_str(&format!("{name}@localhost")).unwrap());
    let plain = DnsConfig::Addr { addr: server.listening[0].to_string() };
    let direct = DnsConfig::Addr { addr: server.listening_tls[0].to_string() };
    let timeouts = Timeouts::default();
    let mut juliet =
        Client::new_with_connector(jid("juliet"), PASSWORD, StartTlsServerConnector::from(plain), timeouts);
    let mut romeo =
        Client::new_with_connector(jid("romeo"), PASSWORD, DirectTlsServerConnector::from(direct), timeouts);
    let juliet_is = online(&mut juliet).await;
    let romeo_is = online(&mut romeo).await;
    romeo.send_stanza(chat(juliet_is.clone(), "Ay me! <&> ♥")).await.unwrap();
    let heard = message(&mut juliet).await;
    assert_eq!(heard.from, Some(romeo_is.clone()));
    assert_eq!(heard.bodies.values().next().unwrap(), "Ay me! <&> ♥");
    juliet.send_stanza(chat(romeo_is, "O Romeo")).await.unwrap();
    assert_eq!(message(&mut romeo).await.from, Some(juliet_is.clone()));
    romeo.send_stanza(chat(juliet_is, "Shall I hear more?")).await.unwrap();
    message(&mut juliet).await;
    let said = [vec!["Ay me! <&> ♥", "O Romeo"], vec!["Shall I hear more?"]];
    assert_eq!(history(&mut juliet, "romeo@localhost").await, said);
    assert_eq!(history(&mut romeo, "juliet@localhost").await, said);
    assert_eq!(history(&mut romeo, "nurse@localhost").await, [[""; 0]]);
    juliet.send_end().await.unwrap();
    romeo.send_end().await.unwrap();
}
