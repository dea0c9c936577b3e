//! FCM, HTTP v1, with the token endpoint of Google's OAuth.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ring::signature::{KeyPair, RSA_PKCS1_2048_8192_SHA256, RsaKeyPair};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};

use super::authority::Authority;
use super::journal::{Heard, Journal};
use super::jwt;
use super::script::{Answer, Script};
use super::server::{Asked, Options, Provider, Server};
use crate::settings::Clock;

/// A key that was made for tests, and is worth nothing elsewhere.
const KEY: &str = include_str!("service-account.pem");

const PROJECT: &str = "double-1";
const EMAIL: &str = "sender@double-1.iam.example";

/// Bytes that a message's data may have.
const DATA_BYTES_MAX: usize = 4_096;

/// FCM and the token endpoint, on one port.
pub struct Fcm {
    state: Arc<State>,
    server: Server,
}

struct State {
    journal: Journal,
    script: Script,
    tokens: Script,
    clock: Clock,
    token_uri: String,
    public: Vec<u8>,
    granted: Mutex<Granted>,
}

#[derive(Default)]
struct Granted {
    number: u64,
    /// The tokens that are good, with their ends: seconds since 1970.
    good: Vec<(String, u64)>,
    seconds: u64,
}

impl Fcm {
    /// Starts it.
    ///
    /// # Errors
    /// The system gives no socket or no thread.
    ///
    /// # Panics
    /// Its key is none, which only a change of the file can cause.
    pub fn start(authority: &Authority, options: Options, clock: Clock) -> io::Result<Fcm> {
        let listener = Server::listener()?;
        let der = PrivatePkcs8KeyDer::from_pem_slice(KEY.as_bytes()).expect("it is a key");
        let pair = RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()).expect("it is an RSA key");
        let state = Arc::new(State {
            journal: Journal::default(),
            script: Script::default(),
            tokens: Script::default(),
            clock,
            token_uri: format!("https://localhost:{}/token", listener.local_addr()?.port()),
            public: pair.public_key().as_ref().to_vec(),
            granted: Mutex::new(Granted { seconds: 3_600, ..Granted::default() }),
        });
        let server = Server::start(authority, options, listener, state.clone())?;
        Ok(Fcm { state, server })
    }

    /// Where it takes messages.
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// The service account's key, as Google's console gives it.
    pub fn account_json(&self) -> String {
        let account = json!({
            "type": "service_account",
            "project_id": PROJECT,
            "private_key_id": "0123456789abcdef",
            "private_key": KEY,
            "client_email": EMAIL,
            "token_uri": self.state.token_uri,
        });
        account.to_string()
    }

    /// What it heard.
    pub fn journal(&self) -> &Journal {
        &self.state.journal
    }

    /// What it answers to messages.
    pub fn script(&self) -> &Script {
        &self.state.script
    }

    /// What it answers to requests for access tokens.
    pub fn token_script(&self) -> &Script {
        &self.state.tokens
    }

    /// Access tokens that it has given.
    pub fn tokens(&self) -> u64 {
        self.state.granted().number
    }

    /// For how many seconds the next access tokens are good.
    pub fn set_token_seconds(&self, seconds: u64) {
        self.state.granted().seconds = seconds;
    }

    /// Makes all access tokens bad.
    pub fn revoke_tokens(&self) {
        self.state.granted().good.clear();
    }
}

impl State {
    fn granted(&self) -> MutexGuard<'_, Granted> {
        self.granted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn grant(&self, asked: &Asked) -> Answer {
        if let Err(text) = self.check_grant(asked) {
            self.journal.violation(format!("token: {text}"));
            let body = json!({ "error": "invalid_grant", "error_description": text });
            return Answer::status(400, &body.to_string());
        }
        self.grant_as_scripted(self.tokens.take())
    }

    fn grant_as_scripted(&self, answer: Answer) -> Answer {
        match answer {
            Answer::Take => {
                let mut granted = self.granted();
                granted.number += 1;
                let (token, seconds) = (format!("access-{}", granted.number), granted.seconds);
                granted.good.push((token.clone(), self.clock.now() + seconds));
                let body = json!({ "access_token": token, "expires_in": seconds, "token_type": "Bearer" });
                Answer::status(200, &body.to_string())
            }
            Answer::Hold(then) => Answer::Hold(Box::new(self.grant_as_scripted(*then))),
            other => other,
        }
    }

    /// RFC 7523 §3, and what Google asks for.
    fn check_grant(&self, asked: &Asked) -> Result<(), String> {
        let form = std::str::from_utf8(&asked.body).map_err(|error| error.to_string())?;
        let grant = form
            .strip_prefix("grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=")
            .ok_or("it is no grant of this type")?;
        let (header, claims) = jwt::verify(grant, &RSA_PKCS1_2048_8192_SHA256, &self.public)?;
        jwt::expect(&header, "alg", "RS256")?;
        jwt::expect(&header, "kid", "0123456789abcdef")?;
        jwt::expect(&claims, "iss", EMAIL)?;
        jwt::expect(&claims, "aud", &self.token_uri)?;
        jwt::expect(&claims, "scope", "https://www.googleapis.com/auth/firebase.messaging")?;
        let (from, to) = (jwt::seconds(&claims, "iat")?, jwt::seconds(&claims, "exp")?);
        let now = self.clock.now();
        match from <= now && now < to && to - from <= 3_600 {
            true => Ok(()),
            false => Err(format!("it is good from {from} to {to}, and now it is {now}")),
        }
    }

    fn message(&self, asked: Asked) -> Answer {
        let token = asked.headers.get("authorization").and_then(|value| value.to_str().ok());
        let token = token.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
        let now = self.clock.now();
        if !self.granted().good.iter().any(|(good, end)| good == token && now < *end) {
            let body = json!({ "error": { "code": 401, "status": "UNAUTHENTICATED",
                "message": "Request had invalid authentication credentials." } });
            return Answer::status(401, &body.to_string());
        }
        let payload = match check_message(&asked) {
            Ok(payload) => payload,
            Err(text) => {
                self.journal.violation(format!("message: {text}"));
                let body = json!({ "error": { "code": 400, "status": "INVALID_ARGUMENT", "message": text } });
                return Answer::status(400, &body.to_string());
            }
        };
        let Asked { connection, path, headers, body, .. } = asked;
        self.journal.hear(Heard { connection, path, headers, payload, bytes: body.len() });
        taken(self.script.take())
    }
}

/// The script's answer, with what FCM says when it takes a message.
fn taken(answer: Answer) -> Answer {
    match answer {
        Answer::Take => Answer::status(200, &json!({ "name": "projects/double-1/messages/1" }).to_string()),
        Answer::Hold(then) => Answer::Hold(Box::new(taken(*then))),
        other => other,
    }
}

/// What `projects.messages.send` takes of a message with data.
fn check_message(asked: &Asked) -> Result<Value, String> {
    if asked.path != format!("/v1/projects/{PROJECT}/messages:send") || asked.method != "POST" {
        return Err(format!("{} {}", asked.method, asked.path));
    }
    let payload: Value = serde_json::from_slice(&asked.body).map_err(|error| error.to_string())?;
    let message = &payload["message"];
    if message["token"].as_str().is_none_or(str::is_empty) {
        return Err("there is no token".to_owned());
    }
    let data = message["data"].as_object().ok_or("there is no data")?;
    let mut bytes = 0;
    for (name, value) in data {
        let text = value.as_str().ok_or_else(|| format!("{name} is no string"))?;
        bytes += name.len() + text.len();
        if name == "from" || name.starts_with("google") || name.starts_with("gcm") {
            return Err(format!("{name} is a reserved name"));
        }
    }
    if bytes > DATA_BYTES_MAX {
        return Err(format!("the data has {bytes} bytes"));
    }
    let android = &message["android"];
    if !matches!(android["priority"].as_str(), Some("high" | "normal")) {
        return Err(format!("the priority is {}", android["priority"]));
    }
    let seconds = android["ttl"].as_str().and_then(|ttl| ttl.strip_suffix('s')?.parse::<u64>().ok());
    match seconds {
        Some(0..=2_419_200) => Ok(payload),
        _ => Err(format!("the ttl is {}", android["ttl"])),
    }
}

impl Provider for State {
    fn journal(&self) -> &Journal {
        &self.journal
    }

    fn answer(&self, asked: Asked) -> Answer {
        match asked.path.as_str() {
            "/token" => self.grant(&asked),
            _ => self.message(asked),
        }
    }
}
