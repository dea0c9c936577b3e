//! Push (XEP-0357): what a client says of the device that is to be woken, as a form of publish-options.
//!
//! The fields are those that clients of MongooseIM send, and for Web Push the keys of the subscription (RFC 8291):
//!
//! | field | |
//! | --- | --- |
//! | `service` | `fcm`, `apns` or `webpush` |
//! | `device_id` | the token; of Web Push the endpoint |
//! | `p256dh`, `auth` | of Web Push, URL-safe Base64 |
//! | `topic` | of APNs, the app's bundle id; one that ends in `.voip` has PushKit's token and is told of calls alone |
//! | `mode` | of APNs, `prod` or `dev` |
//! | `silent` | the app is woken and nothing is shown |
//! | `priority` | `normal` or `high`, which is the default |
//! | `sound`, `mutable_content`, `click_action`, `time_to_live` | as the push service has them |
//!
//! What else is in the form is for services that this server does not have, and passed over.

use std::borrow::Cow;

use whimbrel_push::webpush::subscription_keys;
use whimbrel_storage::directory::PUSH_NODE_BYTES_MAX;
use whimbrel_storage::jid::Jid;

use crate::proto::errors::{StanzaCondition, StanzaError};
use crate::proto::forms::{FormError, Submission, Submitted};
use crate::proto::ns;
use crate::xml::Element;

/// Bytes of a token or an endpoint.
const TOKEN_BYTES_MAX: usize = 2048;

/// Hexadecimal digits of a token of APNs: Apple may make them longer.
const APNS_DIGITS: std::ops::RangeInclusive<usize> = 16..=200;

/// Bytes of the other texts.
const TEXT_BYTES_MAX: usize = 256;

/// What the topic of PushKit's tokens ends with.
pub const VOIP: &str = ".voip";

/// A push service.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum PushService {
    /// Firebase Cloud Messaging.
    Fcm,
    /// Apple Push Notification service.
    Apns,
    /// Web Push (RFC 8030).
    WebPush,
}

impl PushService {
    /// All of them, in the order of their codes.
    pub const ALL: [PushService; 3] = [PushService::Fcm, PushService::Apns, PushService::WebPush];

    /// As it is kept in the directory.
    pub fn code(self) -> u8 {
        match self {
            PushService::Fcm => 1,
            PushService::Apns => 2,
            PushService::WebPush => 3,
        }
    }

    /// The one with this [`PushService::code`].
    pub fn from_code(code: u8) -> Option<PushService> {
        PushService::ALL.into_iter().find(|service| service.code() == code)
    }

    /// Its place in [`PushService::ALL`].
    pub fn index(self) -> usize {
        usize::from(self.code()) - 1
    }

    /// As clients and operators call it.
    pub fn name(self) -> &'static str {
        match self {
            PushService::Fcm => "fcm",
            PushService::Apns => "apns",
            PushService::WebPush => "webpush",
        }
    }
}

/// Yes and no of a device, as the directory keeps them.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceFlags(pub u8);

impl DeviceFlags {
    /// The app is woken and nothing is shown.
    pub const SILENT: DeviceFlags = DeviceFlags(1);
    /// The device need not be woken for a message at once.
    pub const NORMAL_PRIORITY: DeviceFlags = DeviceFlags(2);
    /// The app may change what is shown.
    pub const MUTABLE_CONTENT: DeviceFlags = DeviceFlags(4);

    /// Whether it is set.
    pub fn has(self, flag: DeviceFlags) -> bool {
        self.0 & flag.0 != 0
    }

    fn put(&mut self, flag: DeviceFlags, on: bool) {
        match on {
            true => self.0 |= flag.0,
            false => self.0 &= !flag.0,
        }
    }
}

/// What a client says of its device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceOptions {
    /// The push service.
    pub service: PushService,
    /// The token, or the endpoint.
    pub token: String,
    /// Of Web Push: public key and secret, one after the other.
    pub keys: Vec<u8>,
    /// Of APNs: the app's bundle id.
    pub topic: String,
    /// Of APNs: the app is under development; `None`: not said.
    pub develops: Option<bool>,
    /// Yes and no.
    pub flags: DeviceFlags,
    /// Seconds for which the push service may keep a message; 0: not said.
    pub time_to_live: u32,
    /// The sound.
    pub sound: String,
    /// What a click does.
    pub click_action: String,
}

/// `<enable/>` (§5) or `<disable/>` (§6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PushRequest {
    /// Tell this device of messages.
    Enable {
        /// The address of the app server.
        jid: Jid,
        /// Names the device; `None`: the client gives it no name.
        node: Option<String>,
        /// What the device is; `None`: nothing is said, as with app servers that know it themselves.
        options: Option<DeviceOptions>,
    },
    /// Do not tell it any more.
    Disable {
        /// The address of the app server.
        jid: Jid,
        /// The device; `None`: all of that address.
        node: Option<String>,
    },
}

impl PushRequest {
    /// Reads the child of an iq.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(query: &Element) -> Result<PushRequest, StanzaError> {
        let jid = query.attribute("jid").ok_or_else(|| bad("the element has no 'jid'"))?;
        let jid = Jid::parse(jid).map_err(|_| StanzaError::from(StanzaCondition::JidMalformed))?;
        let node = query.attribute("node").filter(|node| !node.is_empty()).map(str::to_owned);
        if node.as_ref().is_some_and(|node| node.len() > PUSH_NODE_BYTES_MAX) {
            return Err(unfit(format!("a node may have at most {PUSH_NODE_BYTES_MAX} bytes")));
        }
        if query.name() == "disable" {
            return Ok(PushRequest::Disable { jid, node });
        }
        let form = query.find("x", ns::DATA_FORMS);
        let options = form.map(DeviceOptions::read).transpose()?;
        Ok(PushRequest::Enable { jid, node, options })
    }
}

impl DeviceOptions {
    /// Reads the form of publish-options (XEP-0060 §7.1.5).
    ///
    /// # Errors
    /// What is wrong with it.
    fn read(form: &Element) -> Result<DeviceOptions, StanzaError> {
        let mut form = Submission::read(form, ns::PUBSUB_OPTIONS)?.submitted()?;
        let services = PushService::ALL.map(|service| (service.name(), service));
        let service = form.choice("service", &services)?;
        let service = service.ok_or_else(|| FormError::Missing("service".into()))?;
        let token = form.needed_text("device_id")?.into_owned();
        check_token(service, &token)?;
        let keys = match service {
            PushService::WebPush => read_keys(&mut form)?,
            PushService::Fcm | PushService::Apns => Vec::new(),
        };
        let develops = form.choice("mode", &[("prod", false), ("dev", true)])?;
        let mut flags = DeviceFlags::default();
        flags.put(DeviceFlags::SILENT, form.boolean("silent")?.unwrap_or(false));
        // An app of Apple's that cannot change what is shown shows that a message is there, and no more.
        let is_apns = service == PushService::Apns;
        flags.put(DeviceFlags::MUTABLE_CONTENT, form.boolean("mutable_content")?.unwrap_or(is_apns));
        let is_normal = form.choice("priority", &[("normal", true), ("high", false)])?;
        flags.put(DeviceFlags::NORMAL_PRIORITY, is_normal.unwrap_or(false));
        Ok(DeviceOptions {
            service,
            token,
            keys,
            topic: short(&mut form, "topic")?,
            develops,
            flags,
            time_to_live: read_seconds(&mut form)?,
            sound: short(&mut form, "sound")?,
            click_action: short(&mut form, "click_action")?,
        })
    }
}

fn bad(text: &'static str) -> StanzaError {
    StanzaError::from(StanzaCondition::BadRequest).with_text(text)
}

fn unfit(text: impl Into<Cow<'static, str>>) -> StanzaError {
    StanzaError::from(StanzaCondition::NotAcceptable).with_text(text)
}

fn check_token(service: PushService, token: &str) -> Result<(), StanzaError> {
    if token.len() > TOKEN_BYTES_MAX || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(unfit("this is no device_id of a push service"));
    }
    match service {
        PushService::Fcm => Ok(()),
        PushService::Apns => {
            let is_token = APNS_DIGITS.contains(&token.len()) && token.bytes().all(|b| b.is_ascii_hexdigit());
            is_token.then_some(()).ok_or_else(|| unfit("a device_id of APNs has hexadecimal digits"))
        }
        PushService::WebPush => {
            let is_endpoint = token.starts_with("https://");
            is_endpoint
                .then_some(())
                .ok_or_else(|| unfit("a device_id of Web Push is an endpoint, https://…"))
        }
    }
}

fn read_keys(form: &mut Submitted<'_>) -> Result<Vec<u8>, StanzaError> {
    let (public, secret) = (form.needed_text("p256dh")?, form.needed_text("auth")?);
    match subscription_keys(&public, &secret) {
        Ok((public, secret)) => Ok([&public[..], &secret[..]].concat()),
        Err(error) => Err(unfit(error.to_string())),
    }
}

fn read_seconds(form: &mut Submitted<'_>) -> Result<u32, StanzaError> {
    let Some(text) = form.text("time_to_live")?.filter(|text| !text.is_empty()) else { return Ok(0) };
    text.parse().map_err(|_| unfit("the field time_to_live takes a number of seconds"))
}

fn short(form: &mut Submitted<'_>, name: &'static str) -> Result<String, StanzaError> {
    let text = form.text(name)?.unwrap_or_default();
    match text.len() <= TEXT_BYTES_MAX {
        true => Ok(text.into_owned()),
        false => Err(unfit(format!("the field {name} may have at most {TEXT_BYTES_MAX} bytes"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TYPE: &str = "http://jabber.org/protocol/pubsub#publish-options";

    fn enable(fields: &[(&str, &str)]) -> Result<DeviceOptions, StanzaError> {
        let field = |(name, value): &(&str, &str)| {
            Element::new("field", "jabber:x:data")
                .attr("var", *name)
                .child(Element::new("value", "jabber:x:data").text(value))
        };
        let fields = [("FORM_TYPE", TYPE)].iter().chain(fields).map(field).collect::<Vec<_>>();
        let form = Element::new("x", "jabber:x:data").attr("type", "submit").children(fields);
        let query = Element::new("enable", "urn:xmpp:push:0")
            .attr("jid", "push.example.org")
            .attr("node", "n")
            .child(form);
        match PushRequest::read(&query)? {
            PushRequest::Enable { options: Some(options), .. } => Ok(options),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_form_of_mongooseim_is_read_whole() {
        let options = enable(&[
            ("service", "apns"),
            ("device_id", "00fc13adff785122b4ad28809a3420982341241421348097878e577c991de8f0"),
            ("mode", "prod"),
            ("topic", "org.example.app"),
            ("silent", "true"),
            ("priority", "normal"),
            ("sound", "default"),
            ("mutable_content", "1"),
            ("click_action", "open"),
            ("time_to_live", "60"),
            ("pushmod", "v2"),
        ]);
        let options = options.unwrap();
        assert_eq!((options.service, options.develops), (PushService::Apns, Some(false)));
        assert_eq!((options.topic.as_str(), options.sound.as_str()), ("org.example.app", "default"));
        assert_eq!((options.flags.0, options.time_to_live), (7, 60));
        assert_eq!(options.click_action, "open");
        let least = enable(&[("service", "fcm"), ("device_id", "abc:DEF-_")]).unwrap();
        assert_eq!((least.flags.0, least.time_to_live, least.develops), (0, 0, None));
    }

    #[test]
    fn a_subscription_of_web_push_has_its_keys() {
        let public =
            "BP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A8";
        let web = |p256dh: &str, auth: &str, endpoint: &str| {
            enable(&[("service", "webpush"), ("device_id", endpoint), ("p256dh", p256dh), ("auth", auth)])
        };
        let endpoint = "https://updates.push.services.mozilla.com/wpush/v2/x";
        for auth in ["BTBZMqHH6r4Tts7J_aSIgg", "BTBZMqHH6r4Tts7J_aSIgg=="] {
            let options = web(public, auth, endpoint).unwrap();
            assert_eq!((options.keys.len(), options.keys[0], options.token.as_str()), (81, 4, endpoint));
        }
        for (p256dh, auth, endpoint) in [
            (public, "BTBZMqHH6r4Tts7J", endpoint),
            (public, "", endpoint),
            (&public[..80], "BTBZMqHH6r4Tts7J_aSIgg", endpoint),
            (public, "BTBZMqHH6r4Tts7J_aSIgg", "http://updates.push.services.mozilla.com/"),
            ("not base64!", "BTBZMqHH6r4Tts7J_aSIgg", endpoint),
        ] {
            let error = web(p256dh, auth, endpoint).unwrap_err();
            assert_eq!(error.condition, StanzaCondition::NotAcceptable, "{p256dh} {auth} {endpoint}");
        }
    }

    #[test]
    fn a_wrong_form_is_refused_with_its_field() {
        let long = "x".repeat(TEXT_BYTES_MAX + 1);
        type Row<'a> = (&'a [(&'a str, &'a str)], StanzaCondition, &'a str);
        let table: &[Row<'_>] = &[
            (&[("device_id", "abc")], StanzaCondition::NotAcceptable, "service"),
            (&[("service", "fcm")], StanzaCondition::NotAcceptable, "device_id"),
            (&[("service", "hms"), ("device_id", "a")], StanzaCondition::NotAcceptable, "service"),
            (&[("service", "apns"), ("device_id", "xyz")], StanzaCondition::NotAcceptable, "device_id"),
            (&[("service", "fcm"), ("device_id", "a b")], StanzaCondition::NotAcceptable, "device_id"),
            (
                &[("service", "fcm"), ("device_id", "a"), ("silent", "perhaps")],
                StanzaCondition::NotAcceptable,
                "silent",
            ),
            (
                &[("service", "fcm"), ("device_id", "a"), ("time_to_live", "-1")],
                StanzaCondition::NotAcceptable,
                "time_to_live",
            ),
            (
                &[("service", "fcm"), ("device_id", "a"), ("sound", &long)],
                StanzaCondition::NotAcceptable,
                "sound",
            ),
        ];
        for (fields, condition, named) in table {
            let error = enable(fields).unwrap_err();
            assert_eq!(error.condition, *condition, "{fields:?}");
            assert!(error.text.as_deref().unwrap_or_default().contains(named), "{error:?}");
        }
    }

    #[test]
    fn addresses_and_nodes_are_checked() {
        let read = |xml: &str| PushRequest::read(&Element::parse(xml.as_bytes()).unwrap());
        let condition = |xml| read(xml).unwrap_err().condition;
        assert_eq!(condition("<enable xmlns='urn:xmpp:push:0'/>"), StanzaCondition::BadRequest);
        assert_eq!(condition("<enable xmlns='urn:xmpp:push:0' jid='@'/>"), StanzaCondition::JidMalformed);
        let jid = Jid::parse("push.x").unwrap();
        assert_eq!(
            read("<disable xmlns='urn:xmpp:push:0' jid='push.x' node=''/>").unwrap(),
            PushRequest::Disable { jid: jid.clone(), node: None }
        );
        assert_eq!(
            read("<enable xmlns='urn:xmpp:push:0' jid='push.x'/>").unwrap(),
            PushRequest::Enable { jid, node: None, options: None }
        );
        let long = format!("<disable xmlns='urn:xmpp:push:0' jid='push.x' node='{}'/>", "n".repeat(1025));
        assert_eq!(condition(&long), StanzaCondition::NotAcceptable);
    }
}
