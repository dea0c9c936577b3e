//! Sending by an HTTPS request to the operator's own service, or to a provider that takes such requests.
//!
//! ```text
//! POST URL
//! Content-Type: application/json
//! Idempotency-Key: 0123456789abcdef          the same in each attempt
//! Whimbrel-Timestamp: 1764043200             seconds since 1970
//! Whimbrel-Signature: v1=…                   hex of HMAC-SHA-256(secret, timestamp "." body)
//!
//! {"id":"0123456789abcdef","domain":"example.org","phone":"+4915112345678","text":"…"}
//! ```
//! 2xx: sent. 408, 425, 429 and 5xx, and no answer: tried again. Anything else: refused for good. Redirects are not
//! followed.

use std::time::Duration;

use ring::hmac;
use serde_json::json;
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use zeroize::Zeroizing;

use crate::clock::unix_milliseconds;
use crate::outbound::{Failure, Sender};
use crate::phone::settings::RegistrationConfig;

use super::Message;

/// Bytes of the secret at least.
const SECRET_BYTES_MIN: usize = 16;

/// Bytes of the files at most; whatever is longer is something else.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Where requests go.
pub struct Webhook {
    agent: ureq::Agent,
    url: String,
    key: hmac::Key,
    domain: String,
}

impl Webhook {
    /// With the files that the configuration names.
    ///
    /// # Errors
    /// One of them cannot be used; the text says which and why.
    pub fn from_config(config: &RegistrationConfig, domain: &str) -> Result<Webhook, String> {
        let read = |key: &str, path: &std::path::Path| {
            let failed =
                |text: &dyn std::fmt::Display| format!("registration.{key}: {}: {text}", path.display());
            let size = std::fs::metadata(path).map_err(|error| failed(&error))?.len();
            if size > FILE_BYTES_MAX {
                return Err(failed(&"it is too long for what it should be"));
            }
            std::fs::read(path).map(Zeroizing::new).map_err(|error| failed(&error))
        };
        let secret = read("webhook_secret_file", &config.webhook_secret_file)?;
        let secret = secret.trim_ascii();
        if secret.len() < SECRET_BYTES_MIN {
            return Err(format!(
                "registration.webhook_secret_file: {}: the secret has {} bytes; use at least {SECRET_BYTES_MIN} \
                 random ones, for example of: openssl rand -hex 32",
                config.webhook_secret_file.display(),
                secret.len()
            ));
        }
        let mut tls = TlsConfig::builder();
        if !config.webhook_ca_file.as_os_str().is_empty() {
            let pem = read("webhook_ca_file", &config.webhook_ca_file)?;
            let found = ureq::tls::parse_pem(&pem).filter_map(|item| match item {
                Ok(ureq::tls::PemItem::Certificate(certificate)) => Some(certificate),
                _ => None,
            });
            let authorities: Vec<Certificate<'static>> = found.collect();
            if authorities.is_empty() {
                let path = config.webhook_ca_file.display();
                return Err(format!("registration.webhook_ca_file: {path}: there is no certificate in it"));
            }
            tls = tls.root_certs(RootCerts::new_with_certs(&authorities));
        }
        let agent = ureq::Agent::config_builder()
            .tls_config(tls.build())
            .proxy(None)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .user_agent(concat!("whimbreld/", env!("CARGO_PKG_VERSION")))
            .build()
            .new_agent();
        Ok(Webhook {
            agent,
            url: config.webhook_url.clone(),
            key: hmac::Key::new(hmac::HMAC_SHA256, secret),
            domain: domain.to_owned(),
        })
    }

    /// The signature of a request.
    fn sign(&self, seconds: u64, body: &str) -> String {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(seconds.to_string().as_bytes());
        context.update(b".");
        context.update(body.as_bytes());
        let tag = context.sign();
        let hex: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        format!("v1={hex}")
    }
}

impl Sender<Message> for Webhook {
    fn name(&self) -> &'static str {
        "webhook"
    }

    fn send(&self, message: &Message, within: Duration) -> Result<(), Failure> {
        let id = format!("{:016x}", message.id);
        let body = json!({
            "id": id,
            "domain": self.domain,
            "phone": message.number.to_string(),
            "text": &*message.text,
        });
        let body = Zeroizing::new(body.to_string());
        let seconds = unix_milliseconds() / 1000;
        let sent = self
            .agent
            .post(&self.url)
            .config()
            .timeout_global(Some(within))
            .build()
            .header("Content-Type", "application/json")
            .header("Idempotency-Key", &id)
            .header("Whimbrel-Timestamp", seconds.to_string())
            .header("Whimbrel-Signature", self.sign(seconds, &body))
            .send(body.as_bytes());
        match sent.map(|response| response.status().as_u16()) {
            Ok(200..=299) => Ok(()),
            Ok(status @ (408 | 425 | 429 | 500..=599)) => {
                Err(Failure::Unreachable(format!("{} answered {status}", self.url)))
            }
            Ok(status) => Err(Failure::Refused(format!("{} answered {status}", self.url))),
            Err(error) => Err(Failure::Unreachable(format!("{}: {error}", self.url))),
        }
    }
}
