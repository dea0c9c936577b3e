//! A server whose push services are doubles on loopback that speak the real protocols.

use std::path::PathBuf;

use tempfile::TempDir;
use whimbrel_push::Clock;
use whimbrel_push::doubles::{Apns, Authority, Fcm, Options};
use whimbrel_server::config::Config;
use whimbrel_server::push::settings::Show;

use super::pushes::form;
use super::{Client, TestServer, drivers};

/// A token of Apple's.
pub(crate) const APNS_TOKEN: &str = "00fc13adff785122b4ad28809a3420982341241421348097878e577c991de8f0";

/// Doubles of FCM and APNs, and a server that speaks to them.
pub(crate) struct Providers {
    /// FCM.
    pub(crate) fcm: Fcm,
    /// APNs.
    pub(crate) apns: Apns,
    /// The server. Gone first.
    pub(crate) server: TestServer,
    _files: TempDir,
}

impl Providers {
    /// Starts them and a server with these changes to its configuration.
    pub(crate) fn start(configure: impl Fn(&mut Config)) -> Providers {
        let authority = Authority::new();
        let fcm = Fcm::start(&authority, Options::default(), Clock::system()).unwrap();
        let apns = Apns::start(&authority, Options::default(), Clock::system()).unwrap();
        let files = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| -> PathBuf {
            let path = files.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let roots = write("roots.pem", authority.pem());
        let account = write("fcm.json", &fcm.account_json());
        let key = write("key.p8", apns.key_pem());
        let server = TestServer::start(drivers()[0], |config| {
            let push = &mut config.push;
            push.roots.clone_from(&roots);
            push.fcm.account.clone_from(&account);
            push.fcm.endpoint = fcm.url();
            push.apns.key.clone_from(&key);
            push.apns.key_id = apns.key_id().into();
            push.apns.team = apns.team_id().into();
            push.apns.topic = apns.topic().into();
            push.apns.endpoint = apns.url();
            (push.ack_seconds, push.pause_seconds) = (1, 1);
            push.show = Show::Text;
            configure(config);
        });
        Providers { fcm, apns, server, _files: files }
    }

    /// An account whose device has enabled push and whose client is gone.
    pub(crate) fn asleep(&self, name: &str, fields: &[(&str, &str)]) {
        let mut client = self.server.online(name, "phone");
        let form = form(fields);
        let enable =
            format!("<enable xmlns='urn:xmpp:push:0' jid='push.localhost' node='{name}'>{form}</enable>");
        assert_eq!(client.ask("set", None, &enable).attribute("type"), Some("result"));
        client.send("</stream:stream>");
        client.expect_close();
    }

    /// As [`Providers::asleep`], with FCM.
    pub(crate) fn asleep_with_fcm(&self, name: &str) {
        self.asleep(name, &[("service", "fcm"), ("device_id", &format!("token-of-{name}"))]);
    }

    /// A client that writes.
    pub(crate) fn romeo(&self) -> Client {
        self.server.online("romeo", "orchard")
    }
}
