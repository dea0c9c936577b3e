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
use tokio_xmpp::minidom::Element;
use tokio_xmpp::parsers::data_forms::{DataForm, DataFormType, Field, FieldType};
use tokio_xmpp::parsers::iq::Iq;
use tokio_xmpp::parsers::mam::{Fin, MetadataQuery, MetadataResponse, Query, QueryId, Result_};
use tokio_xmpp::parsers::mam_prefs::{DefaultPrefs, Prefs};
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

/// A message of the archive.
#[derive(Clone, Debug, PartialEq)]
struct Found {
    id: String,
    /// When it was received, in words that a query takes.
    time: String,
    text: String,
}

/// A page of the archive, and how it ends.
async fn ask(client: &mut Client, fields: Vec<Field>, set: SetQuery, flip_page: bool) -> (Vec<Found>, Fin) {
    let form = DataForm::new(DataFormType::Submit, "urn:xmpp:mam:2", fields);
    let query = Some(QueryId("q".into()));
    let query = Query { queryid: query, node: None, form: Some(form), set: Some(set), flip_page };
    client.send_stanza(Iq::from_set("page", query).into()).await.unwrap();
    let mut page = Vec::new();
    loop {
        match next(client).await {
            Event::Stanza(Stanza::Message(message)) => {
                let results =
                    message.payloads.into_iter().filter_map(|payload| Result_::try_from(payload).ok());
                for Result_ { id, queryid, forwarded } in results {
                    assert_eq!(queryid, Some(QueryId("q".into())));
                    let time = forwarded.delay.expect("a time").stamp.0.to_rfc3339();
                    let text = forwarded.message.bodies.into_values().next().unwrap_or_default();
                    page.push(Found { id, time, text });
                }
            }
            Event::Stanza(Stanza::Iq(Iq::Result { id, payload: Some(payload), .. })) if id == "page" => {
                return (page, Fin::try_from(payload).unwrap());
            }
            Event::Stanza(Stanza::Iq(Iq::Error { id, error, .. })) if id == "page" => panic!("{error:?}"),
            _ => {}
        }
    }
}

/// What the archive has, as far as a form says.
async fn found(client: &mut Client, fields: Vec<Field>) -> Vec<Found> {
    let set = SetQuery { max: Some(50), after: None, before: None, index: None };
    let (page, fin) = ask(client, fields, set, false).await;
    assert!(fin.complete);
    page
}

/// The answer to a request that is no query of messages.
async fn request(client: &mut Client, iq: Iq) -> Option<Element> {
    client.send_stanza(iq.into()).await.unwrap();
    loop {
        match next(client).await {
            Event::Stanza(Stanza::Iq(Iq::Result { id, payload, .. })) if id == "request" => return payload,
            Event::Stanza(Stanza::Iq(Iq::Error { id, error, .. })) if id == "request" => panic!("{error:?}"),
            _ => {}
        }
    }
}

/// A page of the archive: what was said to or by somebody after a message. Returns texts, and the id of the last of them unless
/// the archive has no more.
async fn page(client: &mut Client, with: &str, after: Option<String>) -> (Vec<String>, Option<String>) {
    let set = SetQuery { max: Some(2), after, before: None, index: None };
    let (page, fin) = ask(client, vec![Field::text_single("with", with)], set, false).await;
    (page.into_iter().map(|found| found.text).collect(), fin.set.last.filter(|_| !fin.complete))
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

/// Everything else that an archive of three messages or more can be asked for.
async fn read_in_every_way(client: &mut Client) {
    let all = found(client, Vec::new()).await;
    let [first, .., last] = &all[..] else { panic!("{all:?}") };
    let of = |var: &str, value: &str| Field::text_single(var, value);
    // More than one may have been received in the same millisecond.
    let since: Vec<_> = all.iter().filter(|one| one.time >= last.time).cloned().collect();
    let until: Vec<_> = all.iter().filter(|one| one.time <= first.time).cloned().collect();
    assert_eq!(found(client, vec![of("start", &last.time)]).await, since);
    assert_eq!(found(client, vec![of("end", &first.time)]).await, until);
    assert_eq!(found(client, vec![of("start", &first.time), of("end", &last.time)]).await, all);
    assert_eq!(found(client, vec![of("after-id", &first.id)]).await, all[1..]);
    assert_eq!(found(client, vec![of("before-id", &last.id)]).await, all[..all.len() - 1]);
    let between = vec![of("after-id", &first.id), of("before-id", &last.id)];
    assert_eq!(found(client, between).await, all[1..all.len() - 1]);
    let ids = Field::new("ids", FieldType::ListMulti).with_value(&last.id).with_value(&first.id);
    assert_eq!(found(client, vec![ids]).await, [first.clone(), last.clone()]);
    // The last page, the newest of it first.
    let set = SetQuery { max: Some(2), after: None, before: Some(String::new()), index: None };
    let (page, fin) = ask(client, Vec::new(), set, true).await;
    assert_eq!(page, [last.clone(), all[all.len() - 2].clone()]);
    assert_eq!(fin.set.last.as_ref(), Some(&last.id), "{fin:?}");
    let bounds = request(client, Iq::from_get("request", MetadataQuery)).await;
    let bounds = MetadataResponse::try_from(bounds.expect("bounds")).unwrap();
    let (start, end) = (bounds.start.unwrap(), bounds.end.unwrap());
    assert_eq!((&start.id, start.timestamp.0.to_rfc3339()), (&first.id, first.time.clone()));
    assert_eq!((&end.id, end.timestamp.0.to_rfc3339()), (&last.id, last.time.clone()));
}

/// Nothing of what is exchanged with somebody is archived, and all else is.
async fn never(client: &mut Client, with: Jid) {
    let wanted = Prefs { default_: DefaultPrefs::Always, always: Vec::new(), never: vec![with] };
    let told = request(client, Iq::from_set("request", wanted.clone())).await;
    assert_eq!(Prefs::try_from(told.expect("preferences")).unwrap(), wanted);
    let asked = Prefs { default_: DefaultPrefs::Always, always: Vec::new(), never: Vec::new() };
    let told = request(client, Iq::from_get("request", asked)).await;
    assert_eq!(Prefs::try_from(told.expect("preferences")).unwrap(), wanted);
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
    read_in_every_way(&mut juliet).await;
    read_in_every_way(&mut romeo).await;
    never(&mut juliet, jid("romeo")).await;
    juliet.send_stanza(chat(jid("romeo"), "Be gone")).await.unwrap();
    message(&mut romeo).await;
    assert_eq!(history(&mut juliet, "romeo@localhost").await, said, "she does not want it archived");
    let his = history(&mut romeo, "juliet@localhost").await.concat();
    assert_eq!(his.last().map(String::as_str), Some("Be gone"), "he has not said so");
    juliet.send_end().await.unwrap();
    romeo.send_end().await.unwrap();
}
