//! A push service for browsers (RFC 8030), and browsers that decrypt what comes (RFC 8291). What it decrypts with shares no
//! code with what encrypts, and has the agreement from another library.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use p256::ecdh::diffie_hellman;
use p256::elliptic_curve::sec1::ToEncodedPoint;
use p256::{PublicKey, SecretKey};
use ring::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::ECDSA_P256_SHA256_FIXED;
use serde_json::Value;

use super::authority::Authority;
use super::journal::{Heard, Journal};
use super::jwt;
use super::script::{Answer, Script};
use super::server::{Asked, Options, Provider, Server};
use crate::settings::Clock;

/// Bytes of a body that push services take at least (RFC 8030 §7.2); this one takes no more.
const BODY_BYTES_MAX: usize = 4_096;

/// Seconds for which a VAPID token may be good (RFC 8292 §2).
const TOKEN_SECONDS_MAX: u64 = 24 * 3_600;

/// A push service.
pub struct WebPush {
    state: Arc<State>,
    server: Server,
}

/// A browser's subscription, with the key that only the browser has.
#[derive(Clone)]
pub struct Browser {
    /// Where messages for it go.
    pub endpoint: String,
    /// Its public key.
    pub p256dh: [u8; 65],
    /// Its secret.
    pub auth: [u8; 16],
    secret: SecretKey,
    /// The server's key for which it subscribed.
    server_key: [u8; 65],
}

struct State {
    journal: Journal,
    script: Script,
    clock: Clock,
    origin: String,
    browsers: Mutex<HashMap<String, Browser>>,
}

impl WebPush {
    /// Starts it.
    ///
    /// # Errors
    /// The system gives no socket or no thread.
    pub fn start(authority: &Authority, options: Options, clock: Clock) -> io::Result<WebPush> {
        let listener = Server::listener()?;
        let state = Arc::new(State {
            journal: Journal::default(),
            script: Script::default(),
            clock,
            origin: format!("https://localhost:{}", listener.local_addr()?.port()),
            browsers: Mutex::default(),
        });
        let server = Server::start(authority, options, listener, state.clone())?;
        Ok(WebPush { state, server })
    }

    /// A browser that subscribes for a server's key.
    ///
    /// # Panics
    /// The system gives no random bytes.
    pub fn subscribe(&self, server_key: [u8; 65]) -> Browser {
        let random = SystemRandom::new();
        let (mut secret, mut auth, mut id) = ([0; 32], [0; 16], [0; 12]);
        for bytes in [&mut secret[..], &mut auth[..], &mut id[..]] {
            random.fill(bytes).expect("random bytes");
        }
        // One in 2^32 is no key.
        let secret = SecretKey::from_slice(&secret).expect("a key");
        let p256dh = secret.public_key().to_encoded_point(false).as_bytes().try_into().expect("a point");
        let path = format!("/push/{}", URL_SAFE_NO_PAD.encode(id));
        let endpoint = format!("{}{path}", self.server.url());
        let browser = Browser { endpoint, p256dh, auth, secret, server_key };
        self.browsers().insert(path, browser.clone());
        browser
    }

    /// Where it is.
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// Host and port, as a list of push services has them.
    pub fn host(&self) -> String {
        self.server.url().trim_start_matches("https://").to_owned()
    }

    /// What it heard, decrypted.
    pub fn journal(&self) -> &Journal {
        &self.state.journal
    }

    /// What it answers.
    pub fn script(&self) -> &Script {
        &self.state.script
    }

    fn browsers(&self) -> std::sync::MutexGuard<'_, HashMap<String, Browser>> {
        self.state.browsers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn check(&self, asked: &Asked) -> Result<Value, (u16, String)> {
        let browser = self.browsers.lock().unwrap_or_else(PoisonError::into_inner).get(&asked.path).cloned();
        let browser = browser.ok_or((404, "there is no such subscription".to_owned()))?;
        self.check_vapid(asked, &browser).map_err(|text| (403, text))?;
        check_headers(asked).map_err(|text| (400, text))?;
        if asked.body.len() > BODY_BYTES_MAX {
            return Err((413, format!("{} bytes", asked.body.len())));
        }
        let plain = browser.decrypt(&asked.body).map_err(|text| (400, text))?;
        serde_json::from_slice(&plain).map_err(|error| (400, error.to_string()))
    }

    fn check_vapid(&self, asked: &Asked, browser: &Browser) -> Result<(), String> {
        let text = header(asked, "authorization").strip_prefix("vapid ").ok_or("it has no VAPID token")?;
        let field =
            |name: &str| text.split(',').find_map(|part| part.trim().strip_prefix(name)?.strip_prefix('='));
        let token = field("t").ok_or("VAPID without t")?;
        let key = URL_SAFE_NO_PAD.decode(field("k").ok_or("VAPID without k")?);
        let key = key.map_err(|error| format!("VAPID: {error}"))?;
        if key != browser.server_key {
            return Err("the key is another than that of the subscription".to_owned());
        }
        let (head, claims) = jwt::verify(token, &ECDSA_P256_SHA256_FIXED, &key)?;
        jwt::expect(&head, "alg", "ES256")?;
        jwt::expect(&claims, "aud", &self.origin)?;
        let (end, now) = (jwt::seconds(&claims, "exp")?, self.clock.now());
        if end <= now || end > now + TOKEN_SECONDS_MAX {
            return Err(format!("the token ends at {end}, and now it is {now}"));
        }
        let subject = claims["sub"].as_str().unwrap_or_default();
        match subject.starts_with("mailto:") || subject.starts_with("https:") {
            true => Ok(()),
            false => Err(format!("the token's contact is {subject:?}")),
        }
    }
}

/// RFC 8030 §5.2 to §5.4, RFC 8291 §4.
fn check_headers(asked: &Asked) -> Result<(), String> {
    if asked.method != "POST" {
        return Err(asked.method.clone());
    }
    header(asked, "ttl").parse::<u32>().map_err(|error| format!("TTL: {error}"))?;
    if header(asked, "content-encoding") != "aes128gcm" {
        return Err("the content is not encrypted".to_owned());
    }
    if !matches!(header(asked, "urgency"), "" | "very-low" | "low" | "normal" | "high") {
        return Err("the urgency is none".to_owned());
    }
    let topic = header(asked, "topic");
    let is_safe = topic.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    match topic.len() <= 32 && is_safe {
        true => Ok(()),
        false => Err(format!("the topic is {topic:?}")),
    }
}

fn header<'a>(asked: &'a Asked, name: &str) -> &'a str {
    asked.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

impl Browser {
    /// Opens a body of one record (RFC 8188 §2, RFC 8291 §3).
    fn decrypt(&self, body: &[u8]) -> Result<Vec<u8>, String> {
        let (salt, rest) = body.split_at_checked(16).ok_or("no salt")?;
        let (size, rest) = rest.split_at_checked(4).ok_or("no record size")?;
        let (length, rest) = rest.split_first().ok_or("no key id")?;
        let (sender, record) = rest.split_at_checked(usize::from(*length)).ok_or("no key")?;
        let size = u32::from_be_bytes(size.try_into().expect("four bytes"));
        if record.len() > size as usize {
            return Err(format!("a record of {} bytes, where {size} were promised", record.len()));
        }
        let key = PublicKey::from_sec1_bytes(sender).map_err(|_| "the sender's key is no point")?;
        let shared = diffie_hellman(self.secret.to_nonzero_scalar(), key.as_affine());
        let prk = hmac(&self.auth, &[shared.raw_secret_bytes()]);
        let ikm = hmac(&prk, &[b"WebPush: info\0", &self.p256dh, sender, b"\x01"]);
        let prk = hmac(salt, &[&ikm]);
        let key = hmac(&prk, &[b"Content-Encoding: aes128gcm\0\x01"]);
        let nonce = hmac(&prk, &[b"Content-Encoding: nonce\0\x01"]);
        let key = LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &key[..16]).expect("sixteen bytes"));
        let nonce = Nonce::assume_unique_for_key(nonce[..12].try_into().expect("twelve bytes"));
        let mut record = record.to_vec();
        let plain =
            key.open_in_place(nonce, Aad::empty(), &mut record).map_err(|_| "it cannot be decrypted")?;
        let end = plain.iter().rposition(|byte| *byte != 0).ok_or("no delimiter")?;
        match plain[end] {
            2 => Ok(plain[..end].to_vec()),
            other => Err(format!("the delimiter of the last record is {other}")),
        }
    }
}

/// HKDF's steps are HMACs when no more than one block is asked for (RFC 5869 §2).
fn hmac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key));
    parts.iter().for_each(|part| context.update(part));
    context.sign().as_ref().try_into().expect("SHA-256 has 32 bytes")
}

impl Provider for State {
    fn journal(&self) -> &Journal {
        &self.journal
    }

    fn answer(&self, asked: Asked) -> Answer {
        match self.check(&asked) {
            Ok(payload) => {
                let Asked { connection, path, headers, body, .. } = asked;
                self.journal.hear(Heard { connection, path, headers, payload, bytes: body.len() });
                taken(self.script.take())
            }
            Err((status, text)) => {
                self.journal.violation(format!("{status}: {text}"));
                Answer::status(status, &text)
            }
        }
    }
}

/// The script's answer, with what a push service says when it takes a message.
fn taken(answer: Answer) -> Answer {
    match answer {
        Answer::Take => Answer::status(201, "").with("location", "/message/1"),
        Answer::Hold(then) => Answer::Hold(Box::new(taken(*then))),
        other => other,
    }
}
