//! What each refusal and each queue means, which key of the configuration it hangs on, and what to do about it.

use serde_json::{Map, Value, json};

/// A refusal or a queue.
#[derive(Debug)]
pub struct Explained {
    /// Behind `refused.` or `queue.` in the names of its metrics.
    pub name: &'static str,
    /// What it means, in a sentence.
    pub meaning: &'static str,
    /// Keys of the configuration (docs/config.md).
    pub keys: &'static [&'static str],
    /// What to do.
    pub cure: &'static str,
}

const fn row(
    name: &'static str,
    meaning: &'static str,
    keys: &'static [&'static str],
    cure: &'static str,
) -> Explained {
    Explained { name, meaning, keys, cure }
}

/// Every reason for which the server refuses something.
pub const REFUSALS: &[Explained] = &[
    row(
        "accepts_per_address",
        "An address connected more often than it may in a second, and its connections were reset.",
        &["limits.accepts_per_second_per_address", "limits.accepts_per_second"],
        "If it is a proxy or a carrier's gateway, raise the limit; otherwise block the address in the firewall.",
    ),
    row(
        "account_limits",
        "A block list, private XML or a roster that was set has reached its size, or an account has as many devices for push as it may.",
        &["limits.blocked_jids", "limits.private_bytes", "limits.roster_items", "push.devices"],
        "Ask the account's owner to delete something, or raise the limit.",
    ),
    row(
        "account_memory",
        "One account made the server hold as much memory as it may.",
        &["limits.account_memory_kib"],
        "See which account has most waiting. Its client does not read or acknowledge; `whimbrelctl kick` ends it.",
    ),
    row(
        "answers",
        "There was no room for an answer, and the client was told to ask again.",
        &["limits.output_backlog_bytes", "limits.account_memory_kib"],
        "The client asks for more than it reads. See which account has most waiting.",
    ),
    row(
        "archive",
        "A sent message went on without a copy in its sender's archive, because the log took none.",
        &["log_mib_max"],
        "The log or its disk is full: see `refused.log_full`.",
    ),
    row(
        "archive_queries",
        "More pages of archives were asked for at once than may wait.",
        &["archive.queries", "archive.readers"],
        "The disk is slow: see its latency. Or clients page through archives without end: see who is busiest.",
    ),
    row(
        "caps_hashes",
        "A client announced a hash that the server keeps no room for, so it hears of no node until it announces something else.",
        &["limits.caps_hashes", "limits.caps_nodes"],
        "Many kinds of clients are there, or one announces new hashes again and again: see who is busiest.",
    ),
    row(
        "crypto_queue",
        "More passwords waited to be checked than may.",
        &["limits.crypto_queue"],
        "After a restart this passes by itself. Else see the failed logins: somebody guesses passwords. SCRAM costs less than PLAIN.",
    ),
    row(
        "directory_queue",
        "More changes waited for the directory's writer than may.",
        &["limits.directory_queue"],
        "The disk is slow: see its latency, and what else writes to it.",
    ),
    row(
        "displaced",
        "Connections that had not logged in gave up their places to others.",
        &["limits.sessions_unauthenticated"],
        "See the address with most failed logins; many open connections that do not log in are an attack or a broken application.",
    ),
    row(
        "elements",
        "A client sent a stanza of more elements than a server looks at.",
        &[],
        "A broken client or an attack; no real one needs thousands of elements in a stanza. See the accounts that cause most.",
    ),
    row(
        "framing",
        "A client sent XML that is not well formed, or that passes a limit.",
        &["limits.stanza_bytes", "limits.depth", "limits.attributes", "limits.header_bytes"],
        "A broken client, a port scan, or a stanza that is too long; the log at level debug names the stream.",
    ),
    row(
        "held_bytes",
        "Stanzas came from another worker whose sender had its part of what may wait behind subscriptions, and were refused.",
        &["limits.held_bytes"],
        "Nothing, if it is few senders. If it is many, the disk of the directory is slow: see `queue.directory`.",
    ),
    row(
        "idle",
        "A client did not answer the server's ping.",
        &["limits.idle_seconds", "limits.idle_answer_seconds"],
        "Usual for mobile clients that lost their network. If many at once: the network between them and the server.",
    ),
    row(
        "log_failed",
        "The log of messages has failed; nothing is acknowledged until it works again.",
        &["durability"],
        "The server's log names the disk's error. See `dmesg`; replace the disk or free space.",
    ),
    row(
        "log_full",
        "The log has no room for another file.",
        &["log_mib_max"],
        "Free space on the disk of the data directory, or raise the limit; the server's log says whether descriptors ran out instead.",
    ),
    row(
        "login_throttle",
        "Too many wrong passwords for an account, or from an address or a network.",
        &[
            "limits.guesses_per_address_and_account",
            "limits.guesses_per_account",
            "limits.guesses_per_address",
        ],
        "See the accounts and addresses with most failed logins. Block the address (fail2ban), or mend the application that has an old password.",
    ),
    row(
        "memory",
        "The server uses nearly all of the memory that it may.",
        &["limits.memory_mib"],
        "See what uses it (memory.*), then raise the limit, add memory, or let fewer clients in.",
    ),
    row(
        "offline",
        "As much waits for an account as may.",
        &["limits.offline_messages", "limits.offline_bytes"],
        "Its owner has been away for long or is flooded; see who sends most.",
    ),
    row(
        "offline_sender",
        "One sender has as much waiting for an account as it may.",
        &["limits.offline_percent_per_contact", "limits.offline_percent_per_stranger"],
        "See the account that sends most: it floods somebody.",
    ),
    row(
        "offline_strangers",
        "All strangers together have as much waiting for an account as they may.",
        &["limits.offline_percent_strangers"],
        "Unsolicited messages; see the accounts that send most.",
    ),
    row(
        "offline_strangers_per_minute",
        "Strangers sent to an absent account more often than they may.",
        &["limits.offline_strangers_per_minute"],
        "Unsolicited messages; see the accounts that send most.",
    ),
    row(
        "output_backlog_bytes",
        "So much waited for a client that it was reset.",
        &["limits.output_backlog_bytes"],
        "The client does not read, or the network to it is cut. It can resume its session.",
    ),
    row(
        "pep_item_bytes",
        "A client published an item that is larger than may be.",
        &["limits.pep_item_bytes"],
        "A large avatar, mostly: the client is to make it smaller, or raise the key.",
    ),
    row(
        "preauth_bytes",
        "A client sent too much before it had logged in.",
        &["limits.preauth_bytes"],
        "Not an XMPP client, or an attack; see the addresses with most bytes.",
    ),
    row(
        "preauth_seconds",
        "A client did not log in and bind a resource in time.",
        &["limits.preauth_seconds"],
        "A port scan or a slow network. If real clients are among them, see the crypto queue and the event loop.",
    ),
    row(
        "presence_bytes",
        "A presence was too long to be copied to all contacts.",
        &["limits.presence_bytes"],
        "The client puts a picture or a long text into its presence.",
    ),
    row(
        "pubsub_item_bytes",
        "A client published an item to the publish-subscribe service that is larger than may be.",
        &["pubsub.item_bytes"],
        "Raise the limit, or have what publishes send a link instead.",
    ),
    row(
        "pubsub_limits",
        "The publish-subscribe service, a node of it, or an account with it has as much as it may.",
        &[
            "pubsub.nodes_max",
            "pubsub.mib_max",
            "pubsub.mib_per_node",
            "pubsub.members_max",
            "pubsub.per_account",
            "pubsub.owned_per_account",
        ],
        "`whimbrelctl node list` tells how large nodes are. Raise the limit, or delete nodes that nobody needs.",
    ),
    row(
        "push_queue",
        "A device was not told of a message because the queue of its push service was full; it is told a little later.",
        &["push.queue", "push.in_flight"],
        "The push service is out of reach or overloaded: see what has failed and for how long it pauses.",
    ),
    row(
        "push_rate",
        "A device, or an account, has been told as often in this hour as it may; the rest comes in the next.",
        &["push.per_device_per_hour", "push.per_account_per_hour"],
        "Somebody calls or writes without end: see the accounts that cause most. Or raise the limit.",
    ),
    row(
        "registrations_per_hour",
        "An address tried to register more accounts than it may.",
        &["limits.registrations_per_hour"],
        "Somebody makes accounts by program; if it is an office behind one address, raise the limit.",
    ),
    row(
        "resources_per_user",
        "An account has as many sessions as it may.",
        &["limits.resources_per_user"],
        "A client that reconnects with a new resource each time; `whimbrelctl sessions` shows them.",
    ),
    row(
        "retractions",
        "More retractions of one account, or of one worker, waited to take effect than may.",
        &["archive.retractions"],
        "Somebody takes back messages by the hundred: see who is busiest. Or the disk is slow: see its latency.",
    ),
    row(
        "room_links",
        "A room has as many links that make members as it may.",
        &["rooms.links_max"],
        "`whimbrelctl room invite list` shows them. Revoke those that nobody needs, or raise the limit.",
    ),
    row(
        "room_members",
        "A room has as many members, or bans, as it may.",
        &["rooms.members_max", "rooms.bans_max"],
        "`whimbrelctl room list` tells how large rooms are. Raise the limit, or ask the room's owner to remove somebody.",
    ),
    row(
        "room_messages",
        "An occupant, or a room as a whole, said more than it may.",
        &["rooms.occupant_messages_per_second", "rooms.room_messages_per_second"],
        "A bot or a flood: its sender is among the accounts with most messages. The room's moderators can turn it out.",
    ),
    row(
        "room_occupants",
        "A room is full.",
        &["rooms.occupants_max"],
        "Raise the limit; the room's own configuration may say less.",
    ),
    row(
        "room_passwords",
        "An account gave more wrong passwords, or tokens of links, to rooms than it may in an hour.",
        &["rooms.wrong_passwords_per_hour"],
        "Somebody guesses, or a client tries an old password over and over: see who it is among the accounts that cause most.",
    ),
    row(
        "room_strangers",
        "An account invited more people who do not know it than it may in an hour.",
        &["rooms.strangers_per_hour"],
        "Spam, mostly. See who it is among the accounts that cause most; otherwise raise the limit.",
    ),
    row(
        "room_text",
        "A nick or a subject was too long.",
        &["rooms.nick_bytes", "rooms.subject_bytes"],
        "Nothing, unless people want longer ones.",
    ),
    row(
        "room_waiting",
        "More came for a room, while it wrote to the directory or read its archive, than may wait.",
        &["rooms.waiting_kib"],
        "The disk is slow (see `queue.directory`), or one room is flooded. Raise the limit if neither is the case.",
    ),
    row(
        "rooms",
        "An account wanted to make a room and owns, or has made in this hour, as many as it may.",
        &["rooms.per_account", "rooms.created_per_hour"],
        "Raise the limit, or destroy rooms that nobody needs with `whimbrelctl room destroy`.",
    ),
    row(
        "roster",
        "A roster, or the requests that wait for its owner, have reached their size.",
        &[
            "limits.roster_items",
            "limits.roster_bytes",
            "limits.roster_requests",
            "limits.roster_request_bytes",
        ],
        "Ask the account's owner to answer or delete some, or raise the limit.",
    ),
    row(
        "sessions",
        "As many clients are connected as may.",
        &["limits.sessions"],
        "Raise the limit, with memory and descriptors for it (`whimbrelctl doctor --connections`).",
    ),
    row(
        "sessions_per_address",
        "One address has as many connections as it may.",
        &["limits.sessions_per_address"],
        "If it is a proxy or a carrier's gateway, raise the limit; otherwise block the address.",
    ),
    row(
        "sessions_unauthenticated",
        "As many clients as may be are connected without having logged in.",
        &["limits.sessions_unauthenticated"],
        "After a restart this passes by itself. Else see the addresses with most failed logins.",
    ),
    row(
        "sm_asleep",
        "More waited for a session that slept than may: it ended, and its client reads the archives.",
        &["push.resume_stanzas", "push.resume_kib", "push.resume_hours"],
        "Nothing is lost. Raise the limits, or let sessions wait for fewer hours.",
    ),
    row(
        "sm_detached_sessions",
        "As many sessions wait to be resumed as may, or one has not acknowledged more than it may keep.",
        &["limits.sm_detached_sessions", "limits.sm_resume_seconds", "limits.detached_bytes"],
        "Many clients lost their connection at once; raise the limit or let sessions wait for a shorter time.",
    ),
    row(
        "sm_unacked",
        "A client acknowledged too little, so its session can no longer be resumed.",
        &["limits.sm_unacked_stanzas", "limits.sm_unacked_bytes", "limits.detached_bytes"],
        "The client does not answer the server's requests for acknowledgement; it is broken or its network is cut.",
    ),
    row(
        "upload_bytes",
        "A client asked for a slot for a file that is larger than may be.",
        &["upload.file_mib_max"],
        "Clients are told the limit and make pictures smaller. Raise it if your users send films; the proxy's limit goes with it.",
    ),
    row(
        "upload_limits",
        "An account has uploaded as much as it may, in all or on this day, or all files together are too large.",
        &[
            "upload.mib_max",
            "upload.account_mib_max",
            "upload.account_files_max",
            "upload.account_mib_per_day",
            "upload.account_files_per_day",
            "upload.account_slots_max",
        ],
        "`whimbrelctl upload stats` tells how large all files are, `whimbrelctl upload list JID` those of one account. Keep files for fewer \
         days (upload.keep_days), or raise the limit.",
    ),
    row(
        "websocket_bytes",
        "A browser's client sent a message that is longer than a stanza may be.",
        &["limits.stanza_bytes"],
        "A client that sends files as text, or an attack; the log at level debug names the connection.",
    ),
    row(
        "websocket_frames",
        "A client broke the rules of WebSocket: a frame without a mask, a binary message, a fragment out of place.",
        &["http.listen"],
        "A broken client, a proxy that changes what it passes on, or a port scan; the log at level debug says which rule.",
    ),
];

/// Every queue of the server.
pub const QUEUES: &[Explained] = &[
    row(
        "archive",
        "Pages of archives that wait to be read.",
        &["archive.queries", "archive.readers"],
        "The disk is slow, or many read old messages at once.",
    ),
    row(
        "commands",
        "Commands of the control thread to a worker.",
        &[],
        "A worker does not get to them: see its event loop.",
    ),
    row(
        "commit",
        "Messages whose senders wait until the disk has them.",
        &["durability"],
        "The disk is slow: see its latency and the time of commits.",
    ),
    row(
        "completions",
        "Results of jobs for a worker: passwords that were checked, changes that were written.",
        &[],
        "A worker does not get to them: see its event loop.",
    ),
    row(
        "crypto",
        "Passwords that wait to be checked.",
        &["limits.crypto_queue", "auth.crypto_threads"],
        "Many log in at once, or somebody guesses: see the failed logins.",
    ),
    row(
        "directory",
        "Changes that wait for the directory's writer.",
        &["limits.directory_queue"],
        "The disk is slow: see its latency.",
    ),
    row(
        "held",
        "Stanzas that wait for a subscription on its way to the directory.",
        &["limits.held_bytes"],
        "The directory's writer is behind: see its queue and the disk.",
    ),
    row(
        "mailbox",
        "Parcels from one worker to another.",
        &["limits.mailbox_parcels"],
        "The receiving worker does not get to them: see its event loop.",
    ),
    row(
        "mailbox_bytes",
        "The bytes of those batches.",
        &["limits.mailbox_kib"],
        "The receiving worker does not get to them: see its event loop.",
    ),
    row(
        "mailbox_recipients",
        "What those batches give the receiving worker to do: envelopes, and recipients of those for many.",
        &["limits.mailbox_recipients"],
        "Full mailboxes keep only those waiting who ask for much, until `mailbox.chokes` rises as well: see the busiest accounts.",
    ),
    row(
        "newcomers",
        "WebSocket connections on their way from the HTTP server to a worker.",
        &["http.listen"],
        "A worker does not get to them: see its event loop. Or everybody connects at once, and it passes.",
    ),
    row(
        "output",
        "Bytes that wait for clients that read slowly.",
        &["limits.output_backlog_bytes"],
        "See which account and address has most waiting. Its client does not read, or the network to it is cut.",
    ),
    row(
        "push",
        "Notifications that wait for a push service.",
        &["push.queue", "push.in_flight"],
        "The push service is slow, out of reach, or refuses the server's key: see its failures and the server's log.",
    ),
    row(
        "sms",
        "Text messages that wait for the gateway.",
        &["registration.gateway_queue"],
        "The gateway is slow or away: try its address by hand.",
    ),
    row(
        "upkeep",
        "Files of logs that are to be gone through for compaction or for erased texts.",
        &["archive.erase_days", "log_segment_mib"],
        "The disk is slow: see its latency. Pages of archives do not wait for it.",
    ),
];

/// Both tables as JSON: `{"refusals": {NAME: {"meaning", "keys", "cure"}}, "queues": …}`.
pub fn json() -> Value {
    let table = |rows: &[Explained]| -> Map<String, Value> {
        let row = |row: &Explained| json!({"meaning": row.meaning, "keys": row.keys, "cure": row.cure});
        rows.iter().map(|one| (one.name.to_owned(), row(one))).collect()
    };
    json!({"refusals": table(REFUSALS), "queues": table(QUEUES)})
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Made from the server's own tables; a test there keeps it so.
    const METRICS: &str = include_str!("../../docs/metrics.md");
    const CONFIG: &str = include_str!("../../docs/config.md");

    /// The middle of the names of metrics that begin and end so.
    fn metrics(begin: &str, end: &str) -> BTreeSet<&'static str> {
        let names = METRICS.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
        names.filter_map(|name| name.strip_prefix(begin)?.strip_suffix(end)).collect()
    }

    #[test]
    fn every_refusal_and_every_queue_is_explained_and_no_other() {
        for (begin, end, table) in [("refused.", "", REFUSALS), ("queue.", ".length", QUEUES)] {
            let explained: BTreeSet<&str> = table.iter().map(|row| row.name).collect();
            assert_eq!(explained, metrics(begin, end), "wsar/src/explain.rs and docs/metrics.md");
            assert_eq!(explained.len(), table.len());
            assert!(table.windows(2).all(|pair| pair[0].name < pair[1].name), "in alphabetical order");
        }
    }

    #[test]
    fn every_key_is_in_the_configuration_and_every_text_is_a_sentence() {
        for row in REFUSALS.iter().chain(QUEUES) {
            for key in row.keys {
                assert!(CONFIG.contains(&format!("| `{key}` |")), "{}: {key}", row.name);
            }
            assert!(row.meaning.ends_with('.') && row.cure.ends_with('.'), "{}", row.name);
        }
        for row in REFUSALS.iter().filter(|row| row.keys.is_empty()) {
            let name = format!("`refused.{}`", row.name);
            assert!(
                CONFIG.contains(&name),
                "{name} is with no limit: neither with a key nor with one that is fixed"
            );
        }
    }
}
