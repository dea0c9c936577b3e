//! What a device is to hear, and what became of it.

use std::fmt;
use std::time::Duration;

/// A device, as its provider knows it.
#[derive(Clone, PartialEq, Eq)]
pub enum Target {
    /// A registration of Firebase Cloud Messaging.
    Fcm {
        /// The registration token.
        token: String,
    },
    /// An app on a device of Apple's.
    Apns {
        /// The device token, in hexadecimal digits.
        token: String,
        /// The app's bundle id; `None`: the configured one.
        topic: Option<String>,
        /// The token is PushKit's: what goes there is a VoIP push, to the topic with `.voip` behind it. A topic that ends
        /// so says the same.
        voip: bool,
    },
    /// A subscription of a browser (RFC 8030, RFC 8291).
    WebPush {
        /// Where the push service takes messages for it.
        endpoint: String,
        /// The browser's P-256 key, uncompressed.
        p256dh: [u8; 65],
        /// The browser's secret.
        auth: [u8; 16],
    },
}

/// Without what names the device: logs may hold it.
impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Target::Fcm { .. } => "Fcm",
            Target::Apns { voip: false, .. } => "Apns",
            Target::Apns { voip: true, .. } => "Apns (VoIP)",
            Target::WebPush { .. } => "WebPush",
        })
    }
}

/// What has happened.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Messages wait.
    Message,
    /// Somebody calls: it goes before all others, and is of no use after seconds.
    Call,
    /// The operator tries it.
    Test,
}

impl Kind {
    /// As payloads name it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Message => "message",
            Kind::Call => "call",
            Kind::Test => "test",
        }
    }
}

/// What a device is told. What the configuration withholds from providers is `None`.
#[derive(Clone, PartialEq, Eq)]
pub struct Notification {
    /// Names it: the same in each attempt, and the name under which it is reported.
    pub id: u64,
    /// Where it goes.
    pub target: Target,
    /// What has happened.
    pub kind: Kind,
    /// Messages that wait: the badge.
    pub count: Option<u32>,
    /// The bare address of the sender or the room.
    pub sender: Option<String>,
    /// The body. It is cut where the provider's limit demands it.
    pub text: Option<String>,
    /// An opaque name of the conversation, of which a device shows the last notification only: at most 32 characters of
    /// URL-safe Base64 (RFC 8030 §5.4). Empty: none.
    pub collapse: String,
    /// How long it is of use, from now on. It is not sent later, and the provider is told to drop it then.
    pub time_to_live: Duration,
    /// For the app alone, not for its user: a background push (APNs). FCM and Web Push hand everything to the app.
    pub silent: bool,
    /// The sound's name (APNs); the app's data (others).
    pub sound: Option<String>,
    /// What opens (the category of APNs); the app's data (others).
    pub click_action: Option<String>,
    /// The app may change it before it is shown (APNs).
    pub mutable_content: bool,
    /// The device is woken for it. Calls always have it.
    pub high_priority: bool,
}

/// Without sender and text.
impl fmt::Debug for Notification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Notification { id, target, kind, silent, .. } = self;
        f.debug_struct("Notification")
            .field("id", id)
            .field("target", target)
            .field("kind", kind)
            .field("silent", silent)
            .finish_non_exhaustive()
    }
}

/// What became of a notification. The texts are for the operator: what the provider answered, shortened, without what
/// names the device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The provider has taken it.
    Sent,
    /// The provider says that the device, or its registration with us, is gone: the registration is to be removed.
    Gone(String),
    /// For good: this notification is not acceptable.
    Refused(String),
    /// Our keys are refused: one such outcome for each pause of the provider that follows from it.
    Credentials(String),
    /// No attempt succeeded within its time; why the last one did not.
    Overdue(String),
    /// The provider is stopped. An attempt under way may still have succeeded.
    Stopping,
}

/// The outcome of one notification. There is exactly one for each that was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// [`Notification::id`].
    pub id: u64,
    /// What became of it.
    pub outcome: Outcome,
    /// Requests that were made for it.
    pub attempts: u32,
    /// From the hand-over to the outcome.
    pub took: Duration,
}
