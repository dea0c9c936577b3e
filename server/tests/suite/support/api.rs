//! The HTTP API of registration from a client's side, over HTTPS.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use whimbrel_server::config::{Config, DriverChoice};
use whimbrel_server::phone::settings::GatewayChoice;

use super::provider::Provider;
use super::{PATIENCE, TestServer, drivers};

/// A number that can register.
pub(crate) const PHONE: &str = "+49 1511 2345678";

/// The localpart that belongs to it.
pub(crate) const LOCAL: &str = "4915112345678";

/// Names of two devices.
pub(crate) const DEVICES: [&str; 2] = ["device-one-0001", "device-two-0002"];

/// A server with the HTTP API, and the provider behind its gateway.
pub(crate) struct Office {
    pub(crate) server: TestServer,
    pub(crate) provider: Provider,
    agent: ureq::Agent,
    authority: Certificate<'static>,
    _files: tempfile::TempDir,
}

/// Runs a test against such a server, on one driver: nothing here depends on it.
pub(crate) fn with_office(configure: impl Fn(&mut Config), test: impl Fn(&Office)) {
    let driver = drivers()[0];
    test(&Office::open(driver, configure));
}

/// The secret of the webhook.
pub(crate) const SECRET: &[u8] = b"a secret of the webhook, 32 bytes";

impl Office {
    fn open(driver: DriverChoice, configure: impl Fn(&mut Config)) -> Office {
        let provider = Provider::start();
        let files = tempfile::tempdir().unwrap();
        let secret: PathBuf = files.path().join("secret");
        std::fs::write(&secret, [SECRET, b"\n"].concat()).unwrap();
        let url = format!("http://{}/sms", provider.address);
        let server = TestServer::start(driver, |config| {
            let registration = &mut config.registration;
            registration.listen = vec!["127.0.0.1:0".parse().unwrap()];
            registration.gateway = GatewayChoice::Webhook;
            registration.webhook_url.clone_from(&url);
            registration.webhook_secret_file.clone_from(&secret);
            registration.resend_seconds = 0;
            registration.http_requests_per_minute = 100_000;
            registration.http_connections_per_address = 256;
            configure(config);
        });
        let pem = std::fs::read(server.certificate()).unwrap();
        let certificate = Certificate::from_pem(&pem).unwrap();
        let agent = agent(&certificate);
        Office { server, provider, agent, authority: certificate, _files: files }
    }

    /// A client without connections, that trusts the certificate of the start.
    pub(crate) fn another_agent(&self) -> ureq::Agent {
        agent(&self.authority)
    }

    /// Asks for a PIN; the status, or nothing when the server goes away.
    pub(crate) fn ask_for_status(&self, phone: &str, device: &str) -> Option<u16> {
        let body = json!({ "phone": phone, "device": device }).to_string();
        let request =
            self.another_agent().post(self.url("/v1/registration")).content_type("application/json");
        request.send(body).ok().map(|response| response.status().as_u16())
    }

    /// The address of a path of the API.
    pub(crate) fn url(&self, path: &str) -> String {
        let server = &self.server.server;
        let port = server.http.as_ref().unwrap().listening[0].port();
        let scheme = if server.config().registration.tls { "https" } else { "http" };
        format!("{scheme}://localhost:{port}{path}")
    }

    /// The client.
    pub(crate) fn agent(&self) -> &ureq::Agent {
        &self.agent
    }

    /// Posts a body; status and JSON of the answer.
    pub(crate) fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        self.post_from(path, body, None)
    }

    /// As [`post`](Office::post), as a proxy that speaks for an address.
    pub(crate) fn post_from(&self, path: &str, body: &Value, client: Option<&str>) -> (u16, Value) {
        let mut request = self.agent.post(self.url(path)).header("Content-Type", "application/json");
        if let Some(client) = client {
            request = request.header("X-Forwarded-For", client);
        }
        answer(request.send(body.to_string()).expect("the API answers"))
    }

    /// Asks for a PIN.
    pub(crate) fn ask(&self, phone: &str, device: &str) -> (u16, Value) {
        self.post("/v1/registration", &json!({ "phone": phone, "device": device }))
    }

    /// Asks for a PIN, and reads it from the message.
    pub(crate) fn pin(&self, phone: &str, device: &str) -> String {
        let (status, body) = self.ask(phone, device);
        assert_eq!(status, 202, "{body}");
        self.provider.next().pin()
    }

    /// Tells a PIN.
    pub(crate) fn tell(&self, phone: &str, pin: &str, device: &str) -> (u16, Value) {
        self.post("/v1/registration/verify", &json!({ "phone": phone, "pin": pin, "device": device }))
    }

    /// Registers a device; its key.
    pub(crate) fn register(&self, phone: &str, device: &str) -> String {
        let pin = self.pin(phone, device);
        let (status, body) = self.tell(phone, &pin, device);
        assert_eq!(status, 200, "{body}");
        body["key"].as_str().unwrap().to_owned()
    }

    /// Deletes an account; the status.
    pub(crate) fn delete(&self, name: &str, key: &str) -> u16 {
        use base64::Engine as _;
        let token = base64::engine::general_purpose::STANDARD.encode(format!("{name}:{key}"));
        let request = self.agent.delete(self.url("/v1/account"));
        let request = request.header("Authorization", format!("Basic {token}"));
        request.call().expect("the API answers").status().as_u16()
    }
}

/// A client that trusts the certificate in a file.
pub(crate) fn agent_of(certificate: &Path) -> ureq::Agent {
    agent(&Certificate::from_pem(&std::fs::read(certificate).unwrap()).unwrap())
}

fn agent(authority: &Certificate<'static>) -> ureq::Agent {
    let roots = RootCerts::new_with_certs(std::slice::from_ref(authority));
    ureq::Agent::config_builder()
        .tls_config(TlsConfig::builder().root_certs(roots).build())
        .proxy(None)
        .timeout_global(Some(3 * PATIENCE))
        .http_status_as_error(false)
        .build()
        .new_agent()
}

/// Status and JSON.
pub(crate) fn answer(response: ureq::http::Response<ureq::Body>) -> (u16, Value) {
    let status = response.status().as_u16();
    let text = response.into_body().read_to_string().unwrap();
    (status, serde_json::from_str(&text).unwrap_or(Value::Null))
}

/// The end of a problem's type.
pub(crate) fn kind(problem: &Value) -> &str {
    problem["type"].as_str().and_then(|typ| typ.strip_prefix("urn:whimbrel:problem:")).unwrap_or_default()
}
