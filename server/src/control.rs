//! What is said over the control socket: one JSON object a line each way, described in docs/control.md.
//! [`crate::operations`] serves it.
//!
//! Tools write these shapes down for themselves; a test runs them against the server.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The version of the protocol. It changes when an old tool would misunderstand.
pub const VERSION: u64 = 1;

/// Bytes of one request, its line feed included, at most.
pub const REQUEST_BYTES_MAX: usize = 64 * 1024;

/// Accounts or addresses in one request at most.
pub const ACCOUNTS_MAX: usize = 256;

/// Accounts in one page of a list at most.
pub const PAGE_MAX: usize = 1000;

/// Sessions in one answer at most.
pub const SESSIONS_MAX: usize = 10_000;

/// Fields of a room's configuration by their names, without `muc#roomconfig_` before them, or of a node's, without `pubsub#`; several
/// values with commas between.
pub type RoomSettings = std::collections::BTreeMap<String, String>;

/// Settings of an account by their names.
pub type UserSettings = std::collections::BTreeMap<String, String>;

/// Where a backup goes, and how.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Backup {
    /// The folder, absolute. It must not exist or be empty; or it is a place for backups.
    pub folder: std::path::PathBuf,
    /// It is a place that may have earlier backups, with which the new one shares what has not changed.
    #[serde(default)]
    pub into: bool,
    /// So many of the newest backups of the place are kept.
    #[serde(default)]
    pub keep: Option<std::num::NonZeroU32>,
    /// Most that is written in a second.
    #[serde(default)]
    pub mib_per_second: Option<std::num::NonZeroU32>,
}

/// What can be asked.
#[derive(Debug, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// What the server is and how it does.
    Status,
    /// Every queue with its length, high-water mark and limit.
    Queues,
    /// Bound sessions, of one account or of all.
    Sessions {
        /// Bare JID.
        #[serde(default)]
        user: Option<String>,
        /// Most to list.
        #[serde(default = "sessions_default")]
        max: usize,
    },
    /// End the sessions of an account, or one of them.
    Kick {
        /// Bare or full JID.
        jid: String,
    },
    /// Take no new logins; the server ends when the last session is gone.
    Drain,
    /// End all streams and stop.
    Stop,
    /// Read the certificate and the configuration again.
    Reload,
    /// Become another program, with all connections. Lines with `progress` come before the answer.
    Upgrade {
        /// Its path, absolute; the one from which the server was started when it is left out.
        #[serde(default)]
        program: Option<std::path::PathBuf>,
    },
    /// Copy directory and message log, as they are now, into a folder.
    Backup(Backup),
    /// Create accounts; those that exist stay as they are.
    UserAdd {
        /// The accounts.
        accounts: Vec<Account>,
    },
    /// Give an account other credentials.
    UserPasswd {
        /// The account.
        account: Account,
    },
    /// Delete an account with all that belongs to it, and end its sessions.
    UserDel {
        /// Bare JID.
        jid: String,
    },
    /// Set something that an account says of itself, and tell all that it says.
    UserConfig {
        /// Bare JID.
        jid: String,
        /// What is to be set: name to value.
        #[serde(default)]
        set: UserSettings,
    },
    /// Which of these accounts exist.
    UserExists {
        /// Bare JIDs.
        jids: Vec<String>,
    },
    /// A page of accounts, in the order of their localparts.
    UserList {
        /// The last localpart of the page before.
        #[serde(default)]
        after: Option<String>,
        /// Most to list.
        #[serde(default = "page_default")]
        max: usize,
    },
    /// A page of rooms, in the order of their names.
    RoomList {
        /// The last name of the page before.
        #[serde(default)]
        after: Option<String>,
        /// Most to list.
        #[serde(default = "page_default")]
        max: usize,
    },
    /// A room, how it is set, and who is in it.
    RoomShow {
        /// Its address.
        jid: String,
    },
    /// A page of those who belong to a room or are banned from it, in the order of their addresses.
    RoomMembers {
        /// The room's address.
        jid: String,
        /// The last address of the page before.
        #[serde(default)]
        after: Option<String>,
        /// Most to list.
        #[serde(default = "page_default")]
        max: usize,
    },
    /// Make a room: a private group, unless it is set otherwise.
    RoomCreate {
        /// Its address.
        jid: String,
        /// Bare JIDs of those who own it.
        #[serde(default)]
        owners: Vec<String>,
        /// How it is set.
        #[serde(default)]
        set: RoomSettings,
    },
    /// Destroy a room with all that belongs to it.
    RoomDestroy {
        /// Its address.
        jid: String,
        /// What occupants are told.
        #[serde(default)]
        reason: String,
        /// Where they may go instead.
        #[serde(default)]
        alternate: Option<String>,
    },
    /// Make somebody something to a room, or nothing.
    RoomAffiliate {
        /// The room's address.
        jid: String,
        /// Bare JID.
        member: String,
        /// `owner`, `admin`, `member`, `none` or `outcast`.
        affiliation: String,
        /// What is said about it.
        #[serde(default)]
        reason: String,
    },
    /// Give somebody who belongs to a room a hat, or take one.
    RoomHat {
        /// The room's address.
        jid: String,
        /// Bare JID.
        member: String,
        /// What the hat is, for programs.
        uri: String,
        /// What it is, for people; without one it is taken.
        #[serde(default)]
        title: Option<String>,
    },
    /// Set something of a room, and tell how all of it is set.
    RoomConfig {
        /// Its address.
        jid: String,
        /// What is to be set.
        #[serde(default)]
        set: RoomSettings,
    },
    /// Make a link by which accounts become members of a room.
    RoomInviteCreate {
        /// The room's address.
        jid: String,
        /// How many may use it; 0: any number.
        #[serde(default = "uses_default")]
        uses: u64,
        /// Seconds after which it is of no use; 0: never.
        #[serde(default = "link_seconds_default")]
        seconds: u64,
        /// What it is for.
        #[serde(default)]
        note: String,
    },
    /// The links of a room that are good.
    RoomInviteList {
        /// The room's address.
        jid: String,
    },
    /// Make links of a room void.
    RoomInviteRevoke {
        /// The room's address.
        jid: String,
        /// Which; all of them when it is left out.
        #[serde(default)]
        id: Option<String>,
    },
    /// A page of nodes of the publish-subscribe service, in the order of their names.
    NodeList {
        /// The last name of the page before.
        #[serde(default)]
        after: Option<String>,
        /// Most to list.
        #[serde(default = "page_default")]
        max: usize,
    },
    /// A node and how it is set.
    NodeShow {
        /// Its name.
        node: String,
    },
    /// A page of those who are affiliated with a node or subscribed to it, in the order of their addresses.
    NodeMembers {
        /// The node's name.
        node: String,
        /// The last address of the page before.
        #[serde(default)]
        after: Option<String>,
        /// Most to list.
        #[serde(default = "page_default")]
        max: usize,
    },
    /// Make a node.
    NodeCreate {
        /// Its name.
        node: String,
        /// Bare JIDs of those who own it.
        #[serde(default)]
        owners: Vec<String>,
        /// How it is set.
        #[serde(default)]
        set: RoomSettings,
    },
    /// Delete a node with all that belongs to it.
    NodeDelete {
        /// Its name.
        node: String,
    },
    /// Make somebody something to a node, or nothing.
    NodeAffiliate {
        /// The node's name.
        node: String,
        /// Bare JID.
        member: String,
        /// `owner`, `publisher`, `publish-only`, `member`, `none` or `outcast`.
        affiliation: String,
    },
    /// Set something of a node, and tell how all of it is set.
    NodeConfig {
        /// Its name.
        node: String,
        /// What is to be set.
        #[serde(default)]
        set: RoomSettings,
    },
    /// The devices of an account that push services tell.
    PushList {
        /// Bare JID.
        jid: String,
    },
    /// Send devices of an account a notification that says nothing.
    PushTest {
        /// Bare JID.
        jid: String,
        /// One device; all of them without.
        #[serde(default)]
        node: Option<String>,
    },
    /// Remove devices of an account.
    PushRemove {
        /// Bare JID.
        jid: String,
        /// One device; all of them without.
        #[serde(default)]
        node: Option<String>,
    },
    /// A page of the files that an account has uploaded, the oldest first.
    UploadList {
        /// Bare JID.
        jid: String,
        /// The last file of the page before.
        #[serde(default)]
        after: Option<String>,
        /// Most to list.
        #[serde(default = "page_default")]
        max: usize,
    },
    /// What all accounts have uploaded.
    UploadStats,
    /// Remove a file, or all files of an account.
    UploadRemove {
        /// The file, by its id or URL.
        #[serde(default)]
        id: Option<String>,
        /// Bare JID.
        #[serde(default)]
        jid: Option<String>,
    },
    /// How registration by phone number does.
    RegistrationStatus,
    /// A page of numbers with a PIN under way or a lock, in their order.
    RegistrationPending {
        /// The last number of the page before.
        #[serde(default)]
        after: Option<String>,
        /// Most to list.
        #[serde(default = "page_default")]
        max: usize,
    },
    /// Make void what is under way for a number, and the key of its account.
    RegistrationRevoke {
        /// In international form.
        number: String,
    },
    /// Send a text message without a PIN.
    RegistrationTestSms {
        /// In international form.
        number: String,
    },
}

fn sessions_default() -> usize {
    1000
}

fn uses_default() -> u64 {
    1
}

/// A week.
fn link_seconds_default() -> u64 {
    7 * 24 * 60 * 60
}

fn page_default() -> usize {
    PAGE_MAX
}

/// An account to write.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Account {
    /// Bare JID.
    pub jid: String,
    /// Its SCRAM keys as the directory stores them, in base64: passwords do not travel over the socket.
    pub credentials: String,
}

/// Why a request was not done.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ControlRefusal {
    /// Not JSON, not a known request, or a value that cannot be used.
    BadRequest,
    /// The request speaks another version of the protocol.
    UnsupportedVersion,
    /// The request is longer than [`REQUEST_BYTES_MAX`].
    TooLarge,
    /// Too much waits already, or the server stops.
    Busy,
    /// No answer in time from a part of the server.
    Timeout,
    /// No such account or session.
    NotFound,
    /// There is one of this name already.
    Exists,
    /// The address belongs to another domain.
    ForeignDomain,
    /// It was tried and failed.
    Failed,
}

/// A refusal with its text.
#[derive(Debug, Serialize)]
pub struct Problem {
    /// For programs.
    pub kind: ControlRefusal,
    /// For people: what is wrong and what to do.
    pub message: String,
}

impl Problem {
    /// A refusal of some kind.
    pub fn new(kind: ControlRefusal, message: impl Into<String>) -> Problem {
        Problem { kind, message: whimbrel_storage::plain(&message.into()).into_owned() }
    }
}

/// What a request brings.
pub type Answer = Result<Value, Problem>;

/// Reads one line.
///
/// # Errors
/// The line is not a request of this version.
pub fn parse(line: &[u8]) -> Result<Request, Problem> {
    let bad = |error: serde_json::Error| {
        Problem::new(ControlRefusal::BadRequest, format!("not a request: {error}"))
    };
    let mut value: Value = serde_json::from_slice(line).map_err(bad)?;
    let version = value.as_object_mut().and_then(|object| object.remove("v"));
    match version.as_ref().and_then(Value::as_u64) {
        Some(VERSION) => {}
        Some(other) => {
            let text = format!(
                "the request speaks version {other} of the control protocol, this server version {VERSION}; use \
                 the whimbrelctl that came with the server"
            );
            return Err(Problem::new(ControlRefusal::UnsupportedVersion, text));
        }
        None => {
            let text = format!("a request is a JSON object with `\"v\":{VERSION}` in it");
            return Err(Problem::new(ControlRefusal::BadRequest, text));
        }
    }
    Request::deserialize(value).map_err(bad)
}

/// Writes one line.
pub fn encode(answer: &Answer) -> Vec<u8> {
    let value = match answer {
        Ok(result) => serde_json::json!({ "v": VERSION, "ok": true, "result": result }),
        Err(problem) => serde_json::json!({ "v": VERSION, "ok": false, "error": problem }),
    };
    let mut line = value.to_string().into_bytes();
    line.push(b'\n');
    line
}

/// Writes a line that says how far a request has come.
pub fn encode_progress(text: &str) -> Vec<u8> {
    let mut line = serde_json::json!({ "v": VERSION, "progress": text }).to_string().into_bytes();
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_request_is_refused_with_its_reason() {
        let table: [(&str, ControlRefusal, &str); 7] = [
            ("", ControlRefusal::BadRequest, "not a request"),
            ("[]", ControlRefusal::BadRequest, "\"v\":1"),
            ("{\"request\":\"status\"}", ControlRefusal::BadRequest, "\"v\":1"),
            ("{\"v\":2,\"request\":\"status\"}", ControlRefusal::UnsupportedVersion, "version 2"),
            ("{\"v\":1,\"request\":\"dance\"}", ControlRefusal::BadRequest, "dance"),
            ("{\"v\":1,\"request\":\"kick\"}", ControlRefusal::BadRequest, "jid"),
            ("{\"v\":1,\"request\":\"kick\",\"jid\":\"a@b\",\"x\":1}", ControlRefusal::BadRequest, "x"),
        ];
        for (line, kind, text) in table {
            let problem = parse(line.as_bytes()).expect_err(line);
            assert_eq!(problem.kind, kind, "{line}");
            assert!(problem.message.contains(text), "{line}: {}", problem.message);
        }
    }

    #[test]
    fn optional_values_have_their_defaults() {
        let request = parse(b"{\"v\":1,\"request\":\"sessions\"}").expect("a request");
        assert!(matches!(request, Request::Sessions { user: None, max: 1000 }));
    }
}
