//! What a device is told: as much of a message as the configuration lets providers know.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use memchr::memmem;
use whimbrel_push::{Kind, Notification, Target};
use whimbrel_storage::directory::PushDevice;

use crate::env::Env;
use crate::proto::address;
use crate::proto::muc::notify::is_encrypted;
use crate::proto::ns;
use crate::proto::push::DeviceFlags;
use crate::proto::traits;
use crate::push::settings::Show;
use crate::stanza::Traits;
use crate::xml::{CLIENT, Element};

/// Bytes of a body that are handed on: no provider takes more.
const TEXT_BYTES_MAX: usize = 2048;

/// Bytes of the name of a conversation.
const COLLAPSE_BYTES: usize = 16;

/// What a message is to a device.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// It is a call.
    pub is_call: bool,
    /// The bare address of the sender, or of the room.
    pub sender: Option<String>,
    /// What is in it, if it is no secret.
    pub text: Option<String>,
}

impl Told {
    /// Of a stanza, which `from` has sent.
    pub fn of(env: &Env, from: &str, stanza: &[u8]) -> Told {
        let sender = Some(address::bare_of(from).to_owned());
        // Most messages are no calls, and most providers are not told what is in them.
        let may_be_call = memmem::find(stanza, ns::CALLS.as_bytes()).is_some();
        if !may_be_call && env.config.push.show < Show::Text {
            return Told { is_call: false, sender, text: None };
        }
        let Ok(message) = Element::parse(stanza) else { return Told { sender, ..Told::default() } };
        let is_call = message.find("propose", ns::CALLS).is_some();
        Told { is_call, sender, text: text_of(&message) }
    }
}

/// Whether a message of the log is one of those of which devices are told.
pub(super) fn wakes(stanza: &[u8]) -> bool {
    let Ok(message) = Element::parse(stanza) else { return false };
    traits::of(message.elements().map(|child| (child.name(), child.namespace()))).has(Traits::WAKES)
}

/// The body. That of an encrypted message says nothing but that it is one.
pub(super) fn text_of(message: &Element) -> Option<String> {
    if is_encrypted(message) {
        return None;
    }
    let mut text = message.find("body", CLIENT)?.content().into_owned();
    let end = (0..=TEXT_BYTES_MAX.min(text.len())).rev().find(|&at| text.is_char_boundary(at))?;
    text.truncate(end);
    Some(text).filter(|text| !text.is_empty())
}

/// The notification of a device of an account, of which so many messages have come.
pub(super) fn notification(
    env: &Env,
    (local, device): (&str, &PushDevice),
    target: Target,
    told: &Told,
    count: u32,
) -> Notification {
    let config = &env.config.push;
    let shows = |what: Show| config.show >= what;
    let flags = DeviceFlags(device.flags);
    let keep_seconds = match device.time_to_live {
        0 => config.keep_seconds,
        seconds => seconds.min(config.keep_seconds),
    };
    let given = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
    Notification {
        id: 0,
        target,
        kind: if told.is_call { Kind::Call } else { Kind::Message },
        count: shows(Show::Count).then_some(count),
        sender: told.sender.clone().filter(|_| shows(Show::Sender)),
        text: told.text.clone().filter(|_| shows(Show::Text)),
        collapse: told.sender.as_deref().map(|sender| collapse(env, local, sender)).unwrap_or_default(),
        time_to_live: match told.is_call {
            true => config.call_time(),
            false => Duration::from_secs(keep_seconds.into()),
        },
        silent: flags.has(DeviceFlags::SILENT),
        sound: given(&device.sound),
        click_action: given(&device.click_action),
        mutable_content: flags.has(DeviceFlags::MUTABLE_CONTENT),
        high_priority: told.is_call || !flags.has(DeviceFlags::NORMAL_PRIORITY),
    }
}

/// The name of a conversation, which tells a provider nothing: it cannot be made from addresses without the server's secret.
fn collapse(env: &Env, local: &str, sender: &str) -> String {
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &env.shared.directory.server_secret());
    let mut context = ring::hmac::Context::with_key(&key);
    for part in ["push", local, sender] {
        context.update(part.as_bytes());
        context.update(&[0]);
    }
    URL_SAFE_NO_PAD.encode(&context.sign().as_ref()[..COLLAPSE_BYTES])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_an_encrypted_message_is_told_to_nobody() {
        let message = |inside: &str| {
            let bytes = format!("<message xmlns='jabber:client'>{inside}</message>");
            text_of(&Element::parse(bytes.as_bytes()).unwrap())
        };
        assert_eq!(message("<body>hello</body>").as_deref(), Some("hello"));
        assert_eq!(message("<body/>"), None);
        assert_eq!(message("<subject>hello</subject>"), None);
        for secret in [
            "<encrypted xmlns='urn:xmpp:omemo:2'/>",
            "<encrypted xmlns='eu.siacs.conversations.axolotl'/>",
            "<openpgp xmlns='urn:xmpp:openpgp:0'/>",
            "<encryption xmlns='urn:xmpp:eme:0' namespace='x'/>",
        ] {
            assert_eq!(message(&format!("<body>I sent you a secret</body>{secret}")), None, "{secret}");
        }
        let long = "é".repeat(TEXT_BYTES_MAX);
        assert_eq!(message(&format!("<body>{long}</body>")).unwrap().len(), TEXT_BYTES_MAX);
    }
}
