//! What is told to devices, taken down in place of a push service.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use tempfile::TempDir;
use whimbrel_push::{Notification, VapidKey};
use whimbrel_server::config::Config;
use whimbrel_server::proto::push::PushService;
use whimbrel_server::push::outlet::Carrier;
use whimbrel_server::push::settings::Show;

use super::{Client, PATIENCE, TestServer, on_each_driver_with};

/// Key and secret of a browser (RFC 8291 §5).
const P256DH: &str =
    "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4";
const AUTH: &str = "BTBZMqHH6r4Tts7J_aSIgg";

/// Takes notifications down.
#[derive(Clone, Default)]
pub(crate) struct Recorder(Arc<(Mutex<VecDeque<Notification>>, Condvar)>);

impl Carrier for Recorder {
    fn try_send(&self, notification: Notification) -> Result<(), Box<Notification>> {
        let (told, is_told) = &*self.0;
        told.lock().unwrap().push_back(notification);
        is_told.notify_all();
        Ok(())
    }

    fn gauge(&self) -> (u64, u64, u64) {
        (0, 0, 1)
    }

    fn paused(&self) -> Duration {
        Duration::ZERO
    }

    fn stop(self: Box<Self>, _: Duration) {}
}

impl Recorder {
    /// The next notification.
    pub(crate) fn next(&self) -> Notification {
        let (told, is_told) = &*self.0;
        let (mut told, waited) =
            is_told.wait_timeout_while(told.lock().unwrap(), PATIENCE, |told| told.is_empty()).unwrap();
        assert!(!waited.timed_out(), "no device was told anything");
        told.pop_front().unwrap()
    }

    /// Those that have not been taken.
    pub(crate) fn left(&self) -> usize {
        self.0.0.lock().unwrap().len()
    }
}

/// The keys of a server with push.
pub(crate) struct Keys(TempDir);

impl Keys {
    pub(crate) fn new() -> Keys {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("vapid.pem"), VapidKey::generate_pem().unwrap()).unwrap();
        Keys(folder)
    }

    /// The tables of a configuration that switch push on, for a program of its own. They come last.
    pub(crate) fn toml(&self) -> String {
        let key = self.0.path().join("vapid.pem");
        format!(
            "[push.webpush]\nkey = '{}'\ncontact = 'mailto:operator@localhost'\nhosts = ['push.example']\n",
            key.display()
        )
    }

    /// Switches push on, quick, with all that may be told.
    pub(crate) fn configure(&self, config: &mut Config) {
        config.push.webpush.key = self.0.path().join("vapid.pem");
        config.push.webpush.contact = "mailto:operator@localhost".into();
        config.push.webpush.hosts = vec!["push.example".into()];
        (config.push.ack_seconds, config.push.pause_seconds) = (1, 1);
        config.push.show = Show::Text;
    }
}

/// Runs a test against a server whose notifications are taken down, once on every driver.
pub(crate) fn with_push(configure: impl Fn(&mut Config), test: impl Fn(&TestServer, &Recorder)) {
    let keys = Keys::new();
    let configure = |config: &mut Config| {
        keys.configure(config);
        configure(config);
    };
    on_each_driver_with(configure, |server| test(server, &record(server)));
}

/// Has what a server sends taken down.
pub(crate) fn record(server: &TestServer) -> Recorder {
    let recorder = Recorder::default();
    let outlet = server.server.shared.push.get().expect("there is push");
    if let Some(carrier) = outlet.set(PushService::WebPush, Some(Box::new(recorder.clone()))) {
        carrier.stop(Duration::ZERO);
    }
    recorder
}

/// A form of publish-options.
pub(crate) fn form(fields: &[(&str, &str)]) -> String {
    let mut form = String::from(
        "<x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'>\
         <value>http://jabber.org/protocol/pubsub#publish-options</value></field>",
    );
    for (name, value) in fields {
        form += &format!("<field var='{name}'><value>{value}</value></field>");
    }
    form + "</x>"
}

/// `<enable/>` for a browser.
pub(crate) fn enable(node: &str, more: &[(&str, &str)]) -> String {
    let endpoint = format!("https://push.example/{node}");
    let browser =
        [("service", "webpush"), ("device_id", endpoint.as_str()), ("p256dh", P256DH), ("auth", AUTH)];
    let fields: Vec<_> = browser.into_iter().chain(more.iter().copied()).collect();
    format!("<enable xmlns='urn:xmpp:push:0' jid='push.localhost' node='{node}'>{}</enable>", form(&fields))
}

impl Client {
    /// Has its device told of messages.
    pub(crate) fn enable_push(&mut self, node: &str) {
        let answer = self.ask("set", None, &enable(node, &[]));
        assert_eq!(answer.attribute("type"), Some("result"), "{answer:?}");
    }
}
