//! The names of the namespaces that the server speaks, and of the features that it announces: each is written here once.
//!
//! A test (`server/tests/layers.rs`) finds a name that is written anywhere else. The simulation and the tests write their
//! own, so that a wrong one here does not go unnoticed.

pub use crate::xml::{CLIENT, STREAMS};

/// Declares the constants together with a list of them.
macro_rules! namespaces {
    ($($(#[$doc:meta])* $name:ident = $value:literal,)*) => {
        $($(#[$doc])* pub const $name: &str = $value;)*

        /// All of them, for tests.
        #[cfg(test)]
        const ALL: &[(&str, &str)] = &[$((stringify!($name), $value),)*];
    };
}

namespaces! {
    /// A relation of host-meta: where BOSH is spoken (XEP-0156).
    ALT_BOSH = "urn:xmpp:alt-connections:xbosh",
    /// A relation of host-meta: where WebSocket is spoken (XEP-0156).
    ALT_WEBSOCKET = "urn:xmpp:alt-connections:websocket",
    /// Message archives (XEP-0313).
    ARCHIVE = "urn:xmpp:mam:2",
    /// Feature: archives with all that XEP-0313 has beyond its core.
    ARCHIVE_EXTENDED = "urn:xmpp:mam:2#extended",
    /// The bytes of avatars (XEP-0084).
    AVATAR_DATA = "urn:xmpp:avatar:data",
    /// What there is to know of an avatar.
    AVATAR_METADATA = "urn:xmpp:avatar:metadata",
    /// Feature: avatars of nodes and of vCards are one (XEP-0398).
    AVATAR_CONVERSION = "urn:xmpp:pep-vcard-conversion:0",
    /// Resource binding (RFC 6120 §7.4).
    BIND = "urn:ietf:params:xml:ns:xmpp-bind",
    /// The block list (XEP-0191).
    BLOCKING = "urn:xmpp:blocking",
    /// The condition of an error for whom the sender blocks (XEP-0191 §3.2).
    BLOCKING_ERRORS = "urn:xmpp:blocking:errors",
    /// Bookmarks, an item each (XEP-0402).
    BOOKMARKS = "urn:xmpp:bookmarks:1",
    /// Feature: they are those of private XML as well.
    BOOKMARKS_COMPAT = "urn:xmpp:bookmarks:1#compat",
    /// Feature: they are those of the node with all in one item as well.
    BOOKMARKS_COMPAT_PEP = "urn:xmpp:bookmarks:1#compat-pep",
    /// Feature: bookmarks of nodes and of private XML are one (XEP-0411).
    BOOKMARKS_CONVERSION = "urn:xmpp:bookmarks-conversion:0",
    /// Bookmarks, all in one element (XEP-0048).
    BOOKMARKS_STORAGE = "storage:bookmarks",
    /// Calls that are proposed and answered by messages (XEP-0353).
    CALLS = "urn:xmpp:jingle-message:0",
    /// Entity capabilities (XEP-0115).
    CAPS = "http://jabber.org/protocol/caps",
    /// Message carbons (XEP-0280).
    CARBONS = "urn:xmpp:carbons:2",
    /// Feature: which messages are copied follows the rules of XEP-0280 §6.
    CARBONS_RULES = "urn:xmpp:carbons:rules:0",
    /// Which channel bindings a mechanism may use (XEP-0440).
    CHANNEL_BINDING = "urn:xmpp:sasl-cb:0",
    /// Chat markers (XEP-0333).
    CHAT_MARKERS = "urn:xmpp:chat-markers:0",
    /// Chat states (XEP-0085).
    CHAT_STATES = "http://jabber.org/protocol/chatstates",
    /// Ad-hoc commands (XEP-0050).
    COMMANDS = "http://jabber.org/protocol/commands",
    /// Direct invitations to rooms (XEP-0249).
    CONFERENCE = "jabber:x:conference",
    /// Corrections of messages (XEP-0308).
    CORRECTION = "urn:xmpp:message-correct:0",
    /// Client state indication (XEP-0352).
    CSI = "urn:xmpp:csi:0",
    /// Data forms (XEP-0004).
    DATA_FORMS = "jabber:x:data",
    /// Delayed delivery (XEP-0203).
    DELAY = "urn:xmpp:delay",
    /// Service discovery: identities and features (XEP-0030).
    DISCO_INFO = "http://jabber.org/protocol/disco#info",
    /// Service discovery: items (XEP-0030).
    DISCO_ITEMS = "http://jabber.org/protocol/disco#items",
    /// By which means a message is encrypted (XEP-0380).
    ENCRYPTION = "urn:xmpp:eme:0",
    /// External services (XEP-0215).
    EXTERNAL = "urn:xmpp:extdisco:2",
    /// Forwarded stanzas (XEP-0297).
    FORWARD = "urn:xmpp:forward:0",
    /// The tags of a stream over WebSocket (RFC 7395).
    FRAMING = "urn:ietf:params:xml:ns:xmpp-framing",
    /// The wrapper of BOSH (XEP-0124).
    HTTP_BIND = "http://jabber.org/protocol/httpbind",
    /// The command, and the form, with which an account says who may put it into groups.
    GROUP_SETTINGS = "whimbrel#groups",
    /// What room or operator says of an occupant (XEP-0317).
    HATS = "urn:xmpp:hats:0",
    /// Hints how to treat a message (XEP-0334).
    HINTS = "urn:xmpp:hints",
    /// Last activity (XEP-0012).
    LAST = "jabber:iq:last",
    /// Messages that moderators take back (XEP-0425).
    MODERATION = "urn:xmpp:message-moderate:1",
    /// Rooms (XEP-0045); what a presence asks for that enters one.
    MUC = "http://jabber.org/protocol/muc",
    /// Lists of those who are something to a room.
    MUC_ADMIN = "http://jabber.org/protocol/muc#admin",
    /// Versions of the list of those who belong to a room (XEP-0463).
    MUC_AFFILIATIONS = "urn:xmpp:muc:affiliations:1",
    /// The form that configures a room.
    MUC_CONFIG = "http://jabber.org/protocol/muc#roomconfig",
    /// The form that tells what a room is.
    MUC_INFO = "http://jabber.org/protocol/muc#roominfo",
    /// What only the owner of a room asks for.
    MUC_OWNER = "http://jabber.org/protocol/muc#owner",
    /// The form by which somebody registers with a room; feature: rooms have such a registration.
    MUC_REGISTER = "http://jabber.org/protocol/muc#register",
    /// The form by which somebody asks for voice; feature: visitors may do so.
    MUC_REQUEST = "http://jabber.org/protocol/muc#request",
    /// Feature: a room answers a ping to one's own occupant itself (XEP-0410).
    MUC_SELF_PING = "http://jabber.org/protocol/muc#self-ping-optimization",
    /// Feature: a room reflects a message with the id that it had (XEP-0045 §7.4).
    MUC_STABLE_ID = "http://jabber.org/protocol/muc#stable_id",
    /// What rooms say to their users (XEP-0045).
    MUC_USER = "http://jabber.org/protocol/muc#user",
    /// Ids of occupants (XEP-0421).
    OCCUPANT_ID = "urn:xmpp:occupant-id:0",
    /// Of which messages somebody wants to hear (XEP-0492).
    NOTIFICATION_SETTINGS = "urn:xmpp:notification-settings:0",
    /// Feature: messages are kept for users who are offline (XEP-0160 §3).
    OFFLINE_MESSAGES = "msgoffline",
    /// Encryption for several devices (XEP-0384).
    OMEMO = "urn:xmpp:omemo:2",
    /// The same, as clients have it from before its first release.
    OMEMO_LEGACY = "eu.siacs.conversations.axolotl",
    /// Encryption by OpenPGP (XEP-0373).
    OPENPGP = "urn:xmpp:openpgp:0",
    /// Ping (XEP-0199).
    PING = "urn:xmpp:ping",
    /// Stream feature: subscriptions can be approved before they are asked for (RFC 6121 §3.4).
    PRE_APPROVAL = "urn:xmpp:features:pre-approval",
    /// Private XML storage (XEP-0049).
    PRIVATE = "jabber:iq:private",
    /// Publish-subscribe (XEP-0060). Features of it are this, `#` and a name.
    PUBSUB = "http://jabber.org/protocol/pubsub",
    /// The form that asks an owner whether somebody may subscribe.
    PUBSUB_AUTHORIZATION = "http://jabber.org/protocol/pubsub#subscribe_authorization",
    /// Conditions of its errors.
    PUBSUB_ERRORS = "http://jabber.org/protocol/pubsub#errors",
    /// What subscribers are told.
    PUBSUB_EVENT = "http://jabber.org/protocol/pubsub#event",
    /// The form that configures a node.
    PUBSUB_CONFIG = "http://jabber.org/protocol/pubsub#node_config",
    /// The form that tells what a node is.
    PUBSUB_METADATA = "http://jabber.org/protocol/pubsub#meta-data",
    /// The form of conditions under which something is published.
    PUBSUB_OPTIONS = "http://jabber.org/protocol/pubsub#publish-options",
    /// What only the owner of a node asks for.
    PUBSUB_OWNER = "http://jabber.org/protocol/pubsub#owner",
    /// HTTP upload (XEP-0363).
    HTTP_UPLOAD = "urn:xmpp:http:upload:0",
    /// Push notifications (XEP-0357).
    PUSH = "urn:xmpp:push:0",
    /// Reactions to messages (XEP-0444).
    REACTIONS = "urn:xmpp:reactions:0",
    /// How far conversations were read, on all devices (XEP-0490).
    READ_POSITIONS = "urn:xmpp:mds:displayed:0",
    /// Delivery receipts (XEP-0184).
    RECEIPTS = "urn:xmpp:receipts",
    /// Retractions of messages (XEP-0424).
    RETRACTION = "urn:xmpp:message-retract:1",
    /// Something stands for a retracted message in archives (XEP-0424 §4).
    RETRACTION_TOMBSTONE = "urn:xmpp:message-retract:1#tombstone",
    /// References to others in messages (XEP-0372).
    REFERENCES = "urn:xmpp:reference:0",
    /// Registration (XEP-0077).
    REGISTER = "jabber:iq:register",
    /// Stream feature: an account can be opened (XEP-0077 §8).
    REGISTER_FEATURE = "http://jabber.org/features/iq-register",
    /// What a message replies to (XEP-0461).
    REPLY = "urn:xmpp:reply:0",
    /// The roster (RFC 6121 §2).
    ROSTER = "jabber:iq:roster",
    /// Stream feature: rosters have versions (RFC 6121 §2.6).
    ROSTER_VERSIONS = "urn:xmpp:features:rosterver",
    /// Result sets, page by page (XEP-0059).
    RSM = "http://jabber.org/protocol/rsm",
    /// SASL (RFC 6120 §6.4).
    SASL = "urn:ietf:params:xml:ns:xmpp-sasl",
    /// The session of RFC 3921 §3.
    SESSION = "urn:ietf:params:xml:ns:xmpp-session",
    /// Stream management (XEP-0198).
    SM = "urn:xmpp:sm:3",
    /// Conditions of stanza errors and their text (RFC 6120 §8.3.2).
    STANZA_ERRORS = "urn:ietf:params:xml:ns:xmpp-stanzas",
    /// Ids of stanzas (XEP-0359).
    STANZA_ID = "urn:xmpp:sid:0",
    /// STARTTLS (RFC 6120 §5.4).
    STARTTLS = "urn:ietf:params:xml:ns:xmpp-tls",
    /// Conditions of stream errors and their text (RFC 6120 §4.9.2).
    STREAM_ERRORS = "urn:ietf:params:xml:ns:xmpp-streams",
    /// Entity time (XEP-0202).
    TIME = "urn:xmpp:time",
    /// vCards (XEP-0054).
    VCARD = "vcard-temp",
    /// In a presence: which picture the vCard has (XEP-0153).
    VCARD_UPDATE = "vcard-temp:x:update",
    /// Software version (XEP-0092).
    VERSION = "jabber:iq:version",
    /// What XMPP adds to the wrapper of BOSH (XEP-0206).
    XBOSH = "urn:xmpp:xbosh",
}

/// Features of publish-subscribe (XEP-0060 §10): its namespace, `#`, and a name.
pub mod pubsub_feature {
    macro_rules! named {
        ($($name:ident = $feature:literal,)*) => {
            $(#[doc = $feature] pub const $name: &str = concat!("http://jabber.org/protocol/pubsub#", $feature);)*
        };
    }

    /// The service itself.
    pub const ALL: &str = super::PUBSUB;

    named! {
        ACCESS_AUTHORIZE = "access-authorize",
        ACCESS_OPEN = "access-open",
        ACCESS_PRESENCE = "access-presence",
        ACCESS_ROSTER = "access-roster",
        ACCESS_WHITELIST = "access-whitelist",
        AUTO_CREATE = "auto-create",
        AUTO_SUBSCRIBE = "auto-subscribe",
        CONFIG_NODE = "config-node",
        CONFIG_NODE_MAX = "config-node-max",
        CREATE_AND_CONFIGURE = "create-and-configure",
        CREATE_NODES = "create-nodes",
        DELETE_ITEMS = "delete-items",
        DELETE_NODES = "delete-nodes",
        FILTERED_NOTIFICATIONS = "filtered-notifications",
        INSTANT_NODES = "instant-nodes",
        ITEM_IDS = "item-ids",
        LAST_PUBLISHED = "last-published",
        MANAGE_SUBSCRIPTIONS = "manage-subscriptions",
        MEMBER_AFFILIATION = "member-affiliation",
        META_DATA = "meta-data",
        MODIFY_AFFILIATIONS = "modify-affiliations",
        MULTI_ITEMS = "multi-items",
        OUTCAST_AFFILIATION = "outcast-affiliation",
        PERSISTENT_ITEMS = "persistent-items",
        PRESENCE_NOTIFICATIONS = "presence-notifications",
        PUBLISH = "publish",
        PUBLISH_ONLY_AFFILIATION = "publish-only-affiliation",
        PUBLISH_OPTIONS = "publish-options",
        PUBLISHER_AFFILIATION = "publisher-affiliation",
        PURGE_NODES = "purge-nodes",
        RETRACT_ITEMS = "retract-items",
        RETRIEVE_AFFILIATIONS = "retrieve-affiliations",
        RETRIEVE_DEFAULT = "retrieve-default",
        RETRIEVE_ITEMS = "retrieve-items",
        RETRIEVE_SUBSCRIPTIONS = "retrieve-subscriptions",
        RSM = "rsm",
        SUBSCRIBE = "subscribe",
        SUBSCRIPTION_NOTIFICATIONS = "subscription-notifications",
    }
}

/// Features of a room (XEP-0045 §15.2), of each pair one.
pub mod room_feature {
    macro_rules! named {
        ($($name:ident = $feature:literal,)*) => {
            $(#[doc = $feature] pub const $name: &str = concat!("muc_", $feature);)*
        };
    }

    named! {
        HIDDEN = "hidden",
        MEMBERS_ONLY = "membersonly",
        MODERATED = "moderated",
        NON_ANONYMOUS = "nonanonymous",
        OPEN = "open",
        PASSWORD_PROTECTED = "passwordprotected",
        PERSISTENT = "persistent",
        PUBLIC = "public",
        SEMI_ANONYMOUS = "semianonymous",
        TEMPORARY = "temporary",
        UNMODERATED = "unmoderated",
        UNSECURED = "unsecured",
    }
}

/// Whether clients may not keep private XML of this namespace (XEP-0049 §2.2): the protocol itself uses it.
pub fn is_reserved(namespace: &str) -> bool {
    namespace == VCARD || namespace.starts_with("jabber:") || namespace.starts_with("http://jabber.org/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_namespace_has_one_name_and_nothing_to_escape() {
        for (at, (name, value)) in ALL.iter().enumerate() {
            for (other, same) in &ALL[at + 1..] {
                assert_ne!(value, same, "{name} and {other}");
            }
            // They are written into attributes as they are.
            assert!(value.bytes().all(|b| b.is_ascii_graphic() && !b"'\"&<>".contains(&b)), "{name}");
        }
    }

    #[test]
    fn namespaces_of_the_protocol_are_reserved() {
        for (namespace, reserved) in [
            (ROSTER, true),
            (CAPS, true),
            (VCARD, true),
            ("storage:bookmarks", false),
            ("exodus:prefs", false),
            ("vcard-temp:x", false),
        ] {
            assert_eq!(is_reserved(namespace), reserved, "{namespace}");
        }
    }
}
