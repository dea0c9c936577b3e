//! Requests about devices that push services tell.

use std::sync::mpsc::sync_channel;
use std::time::Duration;

use serde_json::{Value, json};
use whimbrel_push::{Kind, Outcome};
use whimbrel_storage::directory::PushDevice;

use crate::control::{Answer, ControlRefusal, Problem};
use crate::notifier::Notifier;
use crate::operations::Control;
use crate::operations::handlers::unreadable;
use crate::proto::push::{DeviceFlags, PushService};

/// How long the operator waits for what a provider says.
const REPORT_WAIT: Duration = Duration::from_secs(30);

/// Characters of a token that are shown.
const TOKEN_SHOWN: usize = 12;

impl Control {
    pub(super) fn push_list(&self, jid: &str) -> Answer {
        let devices = self.devices(jid)?;
        Ok(json!({ "devices": devices.iter().map(device_json).collect::<Vec<_>>() }))
    }

    pub(super) fn push_test(&self, jid: &str, node: Option<&str>) -> Answer {
        let (notifier, local) = (self.notifier()?, self.local(jid)?);
        let config = self.server.config();
        let devices = self.chosen(jid, node)?;
        let mut waiting = Vec::new();
        for device in devices {
            let (reply, replies) = sync_channel(1);
            let sent = notifier.send(&config, &local, &device, Kind::Test, Some(reply));
            waiting.push((device, sent.then_some(replies)));
        }
        let mut results = Vec::new();
        for (device, replies) in waiting {
            let outcome = match replies.map(|replies| replies.recv_timeout(REPORT_WAIT)) {
                Some(Ok(report)) => outcome_text(&report.outcome),
                Some(Err(_)) => "not answered in time".to_owned(),
                None => "not sent: the queue is full, or the push service is not configured".to_owned(),
            };
            results.push(json!({
                "node": device.node,
                "service": service_name(&device),
                "sent": outcome == "sent",
                "outcome": outcome,
            }));
        }
        Ok(json!({ "devices": results }))
    }

    pub(super) fn push_remove(&self, jid: &str, node: Option<&str>) -> Answer {
        let devices = self.chosen(jid, node)?;
        let (local, node) = (self.local(jid)?, node.map(str::to_owned));
        let removed = self.write(move |transaction| transaction.disable_push(&local, node.as_deref()))?;
        debug_assert!(removed <= devices.len(), "devices come through this writer alone");
        Ok(json!({ "removed": removed }))
    }

    /// The devices of an account, which must exist.
    fn devices(&self, jid: &str) -> Result<Vec<PushDevice>, Problem> {
        let local = self.local(jid)?;
        let directory = &self.server.shared.directory;
        let account = directory.account_id(&local).map_err(unreadable)?;
        let account = account
            .ok_or_else(|| Problem::new(ControlRefusal::NotFound, format!("there is no account {jid}")))?;
        directory.push_devices(account).map_err(unreadable)
    }

    /// One of them, or all.
    fn chosen(&self, jid: &str, node: Option<&str>) -> Result<Vec<PushDevice>, Problem> {
        let mut devices = self.devices(jid)?;
        devices.retain(|device| node.is_none_or(|node| device.node == node));
        if devices.is_empty() {
            let text = match node {
                Some(node) => format!("{jid} has no device {node}; `whimbrelctl push list {jid}` shows them"),
                None => format!("{jid} has no device"),
            };
            return Err(Problem::new(ControlRefusal::NotFound, text));
        }
        Ok(devices)
    }

    fn notifier(&self) -> Result<&Notifier, Problem> {
        self.server.notifier.as_deref().ok_or_else(|| {
            let text = "push is off; give push.fcm, push.apns or push.webpush its key";
            Problem::new(ControlRefusal::Failed, text)
        })
    }
}

fn service_name(device: &PushDevice) -> &'static str {
    PushService::from_code(device.service).map_or("unknown", PushService::name)
}

/// Without what would let somebody else send to the device.
fn device_json(device: &PushDevice) -> Value {
    let flags = DeviceFlags(device.flags);
    json!({
        "node": device.node,
        "resource": device.resource,
        "service": service_name(device),
        "token": device.token.chars().take(TOKEN_SHOWN).collect::<String>(),
        "topic": device.topic,
        "silent": flags.has(DeviceFlags::SILENT),
        "enabled_ms": device.enabled_ms,
    })
}

fn outcome_text(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Sent => "sent".to_owned(),
        Outcome::Gone(said) => format!("the device is gone and was removed: {said}"),
        Outcome::Refused(said) => format!("refused: {said}"),
        Outcome::Credentials(said) => format!("the server's key is refused: {said}"),
        Outcome::Overdue(said) => format!("no attempt succeeded: {said}"),
        Outcome::Stopping => "the server stops".to_owned(),
    }
}
