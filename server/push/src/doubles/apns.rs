//! APNs with provider tokens.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::signature::ECDSA_P256_SHA256_FIXED;
use serde_json::{Value, json};

use super::authority::Authority;
use super::journal::{Heard, Journal};
use super::jwt;
use super::script::{Answer, Script};
use super::server::{Asked, Options, Provider, Server};
use crate::es256::Es256;
use crate::settings::Clock;

const KEY_ID: &str = "KEY4DOUBLE";
const TEAM_ID: &str = "TEAMDOUBLE";
const TOPIC: &str = "example.whimbrel.app";

/// Seconds for which a provider token is good.
const TOKEN_SECONDS: u64 = 3_600;

/// Seconds between two different provider tokens at least.
const UPDATE_SECONDS_MIN: u64 = 20 * 60;

/// APNs.
pub struct Apns {
    state: Arc<State>,
    server: Server,
    pem: String,
}

struct State {
    journal: Journal,
    script: Script,
    clock: Clock,
    public: Vec<u8>,
    tokens: Mutex<Tokens>,
}

#[derive(Default)]
struct Tokens {
    /// The last one, and when it came first: seconds since 1970.
    last: Option<(String, u64)>,
    number: u64,
}

impl Apns {
    /// Starts it.
    ///
    /// # Errors
    /// The system gives no socket or no thread.
    ///
    /// # Panics
    /// The system gives no random bytes.
    pub fn start(authority: &Authority, options: Options, clock: Clock) -> io::Result<Apns> {
        let der = Es256::generate().expect("random bytes");
        let text = STANDARD.encode(der);
        let pem = format!("-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n");
        let public = Es256::from_pem(pem.as_bytes()).expect("it is a key").public().to_vec();
        let state = Arc::new(State {
            journal: Journal::default(),
            script: Script::default(),
            clock,
            public,
            tokens: Mutex::default(),
        });
        let server = Server::start(authority, options, Server::listener()?, state.clone())?;
        Ok(Apns { state, server, pem })
    }

    /// Where it takes notifications.
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// The text of its `.p8` file.
    pub fn key_pem(&self) -> &str {
        &self.pem
    }

    /// The id of that key.
    pub fn key_id(&self) -> &'static str {
        KEY_ID
    }

    /// The id of the team.
    pub fn team_id(&self) -> &'static str {
        TEAM_ID
    }

    /// The app's topic. `.voip` behind it is one as well.
    pub fn topic(&self) -> &'static str {
        TOPIC
    }

    /// What it heard.
    pub fn journal(&self) -> &Journal {
        &self.state.journal
    }

    /// What it answers.
    pub fn script(&self) -> &Script {
        &self.state.script
    }

    /// Different provider tokens that it has seen.
    pub fn tokens(&self) -> u64 {
        self.state.tokens.lock().unwrap_or_else(PoisonError::into_inner).number
    }
}

/// A status and Apple's reason.
type Refusal = (u16, &'static str, String);

impl State {
    fn check_token(&self, asked: &Asked) -> Result<(), Refusal> {
        let token = header(asked, "authorization").strip_prefix("bearer ").unwrap_or_default();
        if token.is_empty() {
            return Err((403, "MissingProviderToken", String::new()));
        }
        let invalid = |text: String| (403, "InvalidProviderToken", text);
        let (head, claims) = jwt::verify(token, &ECDSA_P256_SHA256_FIXED, &self.public).map_err(invalid)?;
        jwt::expect(&head, "alg", "ES256").map_err(invalid)?;
        jwt::expect(&head, "kid", KEY_ID).map_err(invalid)?;
        jwt::expect(&claims, "iss", TEAM_ID).map_err(invalid)?;
        let (issued, now) = (jwt::seconds(&claims, "iat").map_err(invalid)?, self.clock.now());
        if issued > now {
            return Err(invalid(format!("it is of {issued}, and now it is {now}")));
        }
        if now - issued > TOKEN_SECONDS {
            return Err((403, "ExpiredProviderToken", format!("it is {} seconds old", now - issued)));
        }
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        match &tokens.last {
            Some((last, _)) if last == token => return Ok(()),
            Some((_, since)) if now < since + UPDATE_SECONDS_MIN => {
                let text = format!("after {} seconds", now - since);
                return Err((429, "TooManyProviderTokenUpdates", text));
            }
            _ => {}
        }
        tokens.last = Some((token.to_owned(), now));
        tokens.number += 1;
        Ok(())
    }

    fn check(&self, asked: &Asked) -> Result<Value, Refusal> {
        self.check_token(asked)?;
        let bad = |reason: &'static str, text: &str| (400, reason, text.to_owned());
        if asked.method != "POST" {
            return Err((405, "MethodNotAllowed", asked.method.clone()));
        }
        let token = asked.path.strip_prefix("/3/device/").ok_or((404, "BadPath", asked.path.clone()))?;
        if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(bad("BadDeviceToken", token));
        }
        let topic = header(asked, "apns-topic");
        let limit = match header(asked, "apns-push-type") {
            "voip" if topic == format!("{TOPIC}.voip") => 5_120,
            "alert" | "background" if topic == TOPIC => 4_096,
            kind @ ("voip" | "alert" | "background") => {
                return Err(bad("TopicDisallowed", &format!("{kind} {topic}")));
            }
            kind => return Err(bad("InvalidPushType", kind)),
        };
        if asked.body.len() > limit {
            return Err((413, "PayloadTooLarge", format!("{} bytes", asked.body.len())));
        }
        if header(asked, "apns-collapse-id").len() > 64 {
            return Err(bad("BadCollapseId", header(asked, "apns-collapse-id")));
        }
        header(asked, "apns-expiration").parse::<u64>().map_err(|_| bad("BadExpirationDate", ""))?;
        check_uuid(header(asked, "apns-id")).map_err(|text| bad("BadMessageId", &text))?;
        let payload: Value = serde_json::from_slice(&asked.body).map_err(|_| bad("PayloadEmpty", ""))?;
        check_payload(asked, &payload).map_err(|text| bad("BadPriority", &text)).map(|()| payload)
    }
}

/// What Apple's documentation says of push types, priorities and payloads.
fn check_payload(asked: &Asked, payload: &Value) -> Result<(), String> {
    let aps = payload["aps"].as_object().ok_or("there is no aps")?;
    let priority = header(asked, "apns-priority");
    match (header(asked, "apns-push-type"), priority) {
        ("background", "5") => {
            let is_silent = ["alert", "badge", "sound"].iter().all(|name| !aps.contains_key(*name));
            match is_silent && aps.get("content-available") == Some(&json!(1)) {
                true => Ok(()),
                false => Err(format!("a background push with {aps:?}")),
            }
        }
        ("alert", "5" | "10") if aps.contains_key("alert") => Ok(()),
        ("voip", "10") => Ok(()),
        (kind, _) => Err(format!("{kind} with priority {priority} and {aps:?}")),
    }
}

fn check_uuid(text: &str) -> Result<(), String> {
    let lengths: Vec<usize> = text.split('-').map(str::len).collect();
    let is_hex = text.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit());
    match is_hex && lengths == [8, 4, 4, 4, 12] {
        true => Ok(()),
        false => Err(format!("{text:?} is no UUID")),
    }
}

fn header<'a>(asked: &'a Asked, name: &str) -> &'a str {
    asked.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

impl Provider for State {
    fn journal(&self) -> &Journal {
        &self.journal
    }

    fn answer(&self, asked: Asked) -> Answer {
        match self.check(&asked) {
            Ok(payload) => {
                let id = header(&asked, "apns-id").to_owned();
                let Asked { connection, path, headers, body, .. } = asked;
                self.journal.hear(Heard { connection, path, headers, payload, bytes: body.len() });
                taken(self.script.take(), &id)
            }
            Err((status, reason, text)) => {
                self.journal.violation(format!("{status} {reason}: {text}"));
                Answer::status(status, &json!({ "reason": reason }).to_string())
            }
        }
    }
}

/// The script's answer, with what APNs says when it takes a notification.
fn taken(answer: Answer, id: &str) -> Answer {
    match answer {
        Answer::Take => Answer::status(200, "").with("apns-id", id),
        Answer::Hold(then) => Answer::Hold(Box::new(taken(*then, id))),
        other => other,
    }
}
