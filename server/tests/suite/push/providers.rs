//! From a message to the push service, and what its answer leads to: against doubles that speak the real protocols.

use whimbrel_push::doubles::Answer;
use whimbrel_storage::directory::PushDevice;

use crate::support::doubles::{APNS_TOKEN, Providers};
use crate::support::managed::chat;
use crate::support::{PATIENCE, TestServer};

/// What FCM says of a device on which the app is no more.
pub(crate) const UNREGISTERED: &str = r#"{"error":{"status":"NOT_FOUND","message":"gone","details":[
    {"@type":"type.googleapis.com/google.firebase.fcm.v1.FcmError","errorCode":"UNREGISTERED"}]}}"#;

fn devices(server: &TestServer, name: &str) -> Vec<PushDevice> {
    let directory = &server.server.shared.directory;
    directory.push_devices(directory.account_id(name).unwrap().unwrap()).unwrap()
}

#[test]
fn a_message_reaches_fcm_and_apns_once() {
    let providers = Providers::start(|config| config.push.pause_seconds = 86_400);
    providers.server.accounts(&["juliet", "nurse", "romeo"]);
    providers.asleep_with_fcm("juliet");
    let apns = [("service", "apns"), ("device_id", APNS_TOKEN), ("topic", providers.apns.topic())];
    providers.asleep("nurse", &apns);
    let mut romeo = providers.romeo();
    romeo.send(&chat("juliet@localhost", "one"));
    romeo.send(&chat("nurse@localhost", "two"));
    let heard = providers.fcm.journal().wait_for(1).remove(0).payload;
    let data = &heard["message"]["data"];
    assert_eq!(
        (&heard["message"]["token"], &data["message-count"]),
        (&"token-of-juliet".into(), &"1".into())
    );
    assert_eq!(data["last-message-body"], "text of one");
    let heard = providers.apns.journal().wait_for(1).remove(0);
    assert_eq!(heard.path, format!("/3/device/{APNS_TOKEN}"));
    assert_eq!((heard.header("apns-push-type"), heard.header("apns-priority")), ("alert", "10"));
    assert_eq!(heard.payload["aps"]["badge"], 1);
    assert_eq!(heard.payload["aps"]["mutable-content"], 1);
    for journal in [providers.fcm.journal(), providers.apns.journal()] {
        assert_eq!(journal.violations(), [""; 0]);
        assert_eq!(
            journal
                .heard()
                .iter()
                .filter(|heard| heard.path.contains("/3/") || heard.path.contains("send"))
                .count(),
            1
        );
    }
}

#[test]
fn a_device_that_is_gone_is_told_nothing_any_more() {
    let providers = Providers::start(|_| {});
    providers.server.accounts(&["juliet", "romeo"]);
    providers.asleep_with_fcm("juliet");
    assert_eq!(devices(&providers.server, "juliet").len(), 1);
    providers.fcm.script().next(Answer::status(404, UNREGISTERED));
    providers.romeo().send(&chat("juliet@localhost", "one"));
    let since = std::time::Instant::now();
    while !devices(&providers.server, "juliet").is_empty() {
        assert!(since.elapsed() < PATIENCE, "the device stays");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    assert_eq!(providers.server.server.shared.stats.push[0].gone.get(), 1);
}

#[test]
fn an_outage_of_one_push_service_delays_no_other() {
    let providers = Providers::start(|_| {});
    providers.server.accounts(&["juliet", "nurse", "romeo"]);
    providers.asleep_with_fcm("juliet");
    providers.asleep("nurse", &[("service", "apns"), ("device_id", APNS_TOKEN)]);
    providers.fcm.journal().go_down();
    let mut romeo = providers.romeo();
    romeo.send(&chat("juliet@localhost", "one"));
    romeo.send(&chat("nurse@localhost", "two"));
    assert_eq!(providers.apns.journal().wait_for(1)[0].payload["aps"]["badge"], 1);
    romeo.settle();
    providers.fcm.journal().come_up();
    let heard = providers.fcm.journal().wait_for(1).remove(0).payload;
    assert_eq!(heard["message"]["data"]["last-message-body"], "text of one");
}

#[test]
fn a_call_rings_the_device_for_calls_alone() {
    let providers = Providers::start(|config| config.push.pause_seconds = 86_400);
    providers.server.accounts(&["juliet", "romeo"]);
    let voip = format!("{}.voip", providers.apns.topic());
    let ringing = "11".repeat(32);
    let calls = [("service", "apns"), ("device_id", ringing.as_str()), ("topic", voip.as_str())];
    providers.asleep("juliet", &calls);
    let mut client = providers.server.online("juliet", "phone");
    let usual = [("service", "apns"), ("device_id", APNS_TOKEN)];
    let form = crate::support::pushes::form(&usual);
    let enable = format!("<enable xmlns='urn:xmpp:push:0' jid='push.localhost' node='usual'>{form}</enable>");
    assert_eq!(client.ask("set", None, &enable).attribute("type"), Some("result"));
    client.send("</stream:stream>");
    client.expect_close();
    let mut romeo = providers.romeo();
    romeo.send(
        "<message to='juliet@localhost' type='chat'><propose xmlns='urn:xmpp:jingle-message:0' id='c'/></message>",
    );
    let heard = providers.apns.journal().wait_for(1).remove(0);
    assert_eq!(heard.path, format!("/3/device/{ringing}"));
    assert_eq!((heard.header("apns-push-type"), heard.header("apns-topic")), ("voip", voip.as_str()));
    romeo.send(&chat("juliet@localhost", "one"));
    let heard = providers.apns.journal().wait_for(2).remove(1);
    assert_eq!(heard.path, format!("/3/device/{APNS_TOKEN}"), "and that is told of messages");
    assert_eq!(providers.apns.journal().violations(), [""; 0]);
}
