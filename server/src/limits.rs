//! Every limit of the server, in one place, with its default.
//!
//! A limit that bites is counted (see [`crate::metrics`]) and answered as docs/config.md says.

use serde::{Deserialize, Serialize};
use whimbrel_net::mailbox::{Room, Size};
use whimbrel_storage::log::INDEX_MESSAGE_BYTES_MAX;

/// The part of `limits.offline_messages` that may be spooled for an account beside what waits for it.
const SPOOLED_PART: u64 = 4;

/// The limits an operator can set in the `[limits]` table of the configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Connections of the whole server, authenticated or not. Further ones are accepted and answered
    /// with `resource-constraint`.
    pub sessions: u32,
    /// Connections that have not bound a resource yet, of the whole server.
    pub sessions_unauthenticated: u32,
    /// Bound resources of one account. One more is refused with `resource-constraint`.
    pub resources_per_user: u32,
    /// Connections from one address (IPv6: one /64).
    pub sessions_per_address: u32,
    /// Connections taken from the listeners per second, whole server; the rest waits in the kernel's backlog.
    pub accepts_per_second: u32,
    /// Of these, from one address (IPv6: one /64); further ones are turned away. When `accepts_per_second` is reached,
    /// an address that has had more than twice its share of it is turned away, too, if others come.
    pub accepts_per_second_per_address: u32,
    /// Time from the accept to a bound resource, in seconds. After it the stream ends with `connection-timeout`.
    pub preauth_seconds: u32,
    /// Bytes a client may send before it has authenticated (TLS records not counted, their contents are).
    pub preauth_bytes: u32,
    /// Failed SASL attempts on one stream before it is closed with `policy-violation`.
    pub sasl_attempts: u8,
    /// Guesses at one account from one address (IPv6: one /64) that are not forgiven yet; further ones are refused
    /// unheard with `temporary-auth-failure`. Networks (IPv4 /24, IPv6 /48) get twice as many.
    pub guesses_per_address_and_account: u32,
    /// Guesses at one account from addresses that have not logged in to it before.
    pub guesses_per_account: u32,
    /// Guesses from one address at accounts that it has not logged in to before. Networks get three times as many.
    pub guesses_per_address: u32,
    /// Addresses that are remembered for having logged in to an account. A new one takes the place of the one that was
    /// used longest ago.
    pub known_addresses: u32,
    /// Bytes of one stanza. RFC 6120 §13.12 asks for at least 10,000.
    pub stanza_bytes: u32,
    /// Bytes of a stream header.
    pub header_bytes: u32,
    /// Depth of nested elements in one stanza.
    pub depth: u16,
    /// Attributes of one element, namespace declarations included.
    pub attributes: u16,
    /// Bytes waiting to be written to one connection. Past the half of it nobody reads from that client;
    /// past the whole the stream is closed with `resource-constraint`.
    pub output_backlog_bytes: u32,
    /// Batches in the mailbox from one worker to another. When it is full, the sending worker stops reading
    /// from its clients until there is room.
    pub mailbox_parcels: u32,
    /// KiB of those batches, with the same consequence. A mailbox that is empty takes any batch.
    pub mailbox_kib: u32,
    /// Envelopes, and recipients of those for many, from one worker to another, on each of the two roads.
    pub mailbox_recipients: u32,
    /// Stanzas a second that one connection may send in the long run. One that sends more is read from more slowly.
    pub connection_stanzas_per_second: u32,
    /// Stanzas that it may send at once after a time of quiet.
    pub connection_stanzas_burst: u32,
    /// Work units a second, each about a microsecond of one core, that one connection may cause in the long run.
    pub connection_work_per_second: u32,
    /// Work units that it may cause at once after a time of quiet.
    pub connection_work_burst: u32,
    /// Stanzas a second that all connections of one account may send in the long run.
    pub account_stanzas_per_second: u32,
    /// Stanzas that they may send at once after a time of quiet.
    pub account_stanzas_burst: u32,
    /// Work units a second that all connections of one account may cause in the long run.
    pub account_work_per_second: u32,
    /// Work units that they may cause at once after a time of quiet.
    pub account_work_burst: u32,
    /// Bytes of contacts of online users that one worker keeps, so that it need not read their rosters for each presence.
    pub contacts_bytes: u32,
    /// Seconds without a byte from a client before the server sends a ping (XEP-0199).
    pub idle_seconds: u32,
    /// Seconds the client has to say anything after that ping.
    pub idle_answer_seconds: u32,
    /// Directory writes that wait for the writer thread. When it is full, the request gets `resource-constraint`.
    pub directory_queue: u32,
    /// Bytes of stanzas that wait on one worker until a subscription between the same two users is written. Past it
    /// the worker stops reading from its clients and from the other workers until there is less.
    pub held_bytes: u32,
    /// Password checks that wait for the crypto pool. When it is full, the login gets `temporary-auth-failure`.
    pub crypto_queue: u32,
    /// Entities to which one resource has sent directed presence that are remembered for its unavailable.
    pub directed_presence: u32,
    /// MiB of memory that the server may use; 0: half of the machine's. As it is used up, detached sessions, long answers
    /// and new connections are given up, in this order (see [`crate::memory`]).
    pub memory_mib: u32,
    /// KiB of memory that one account may make the server hold: what waits for its clients, what they have not
    /// acknowledged, what is held back for them, their presence.
    pub account_memory_kib: u32,
    /// Contacts in one roster. One more is refused with `resource-constraint`.
    pub roster_items: u32,
    /// Bytes of one roster, as its owner gets it; never more than half of `output_backlog_bytes`. A change past it is refused
    /// with `resource-constraint`.
    pub roster_bytes: u32,
    /// Subscription requests of strangers that wait for one user's answer; further ones are dropped.
    pub roster_requests: u32,
    /// Bytes of a subscription request, which is stored until it is answered. A longer one is refused with
    /// `policy-violation`.
    pub roster_request_bytes: u32,
    /// Bytes of a presence that goes to all contacts. A longer one is refused with `policy-violation`.
    pub presence_bytes: u32,
    /// Groups of one roster item. More are refused with `not-acceptable`.
    pub roster_groups: u32,
    /// Bytes of a roster item's name, and of each of its groups. More are refused with `not-acceptable`.
    pub roster_name_bytes: u32,
    /// Bytes held back for one inactive client (XEP-0352) before everything held is sent.
    pub inactive_bytes: u32,
    /// Entries of one block list (XEP-0191), which together may have `stanza_bytes`. A request that would exceed it
    /// gets `resource-constraint`.
    pub blocked_jids: u32,
    /// Bytes of private XML (XEP-0049) that one account may keep. A request that would exceed it gets
    /// `resource-constraint`.
    pub private_bytes: u32,
    /// Nodes of one account (XEP-0163). One more is refused with `resource-constraint`.
    pub pep_nodes: u32,
    /// Items that one node keeps: what `max_items` of `max` stands for. The oldest go.
    pub pep_items: u32,
    /// Bytes of one item's payload. A longer one is refused with `not-acceptable` (`payload-too-big`).
    pub pep_item_bytes: u32,
    /// Bytes of all nodes and items of one account, with 128 for each. What would exceed it is refused with
    /// `resource-constraint`.
    pub pep_bytes: u64,
    /// Affiliations and subscriptions of all nodes of one account. One more is refused with `resource-constraint`.
    pub pep_members: u32,
    /// Bytes of an answer with items, beside its first one; never more than half of `output_backlog_bytes`. The rest comes
    /// page by page (XEP-0059).
    pub pep_answer_bytes: u32,
    /// Bytes of a payload that notifications carry. Of a longer one they tell the id, and it can be asked for.
    pub pep_payload_bytes: u32,
    /// Hashes of capabilities (XEP-0115) that one worker knows. A client that announces one more hears of no node.
    pub caps_hashes: u32,
    /// Nodes of which the clients of one hash may want to hear. With more of them they hear of none.
    pub caps_nodes: u32,
    /// Accounts that one address (IPv6: one /64) may try to register in an hour, where `auth.open_registration` allows it,
    /// and eight times as many from one network (IPv4 /24, IPv6 /48). One more gets `resource-constraint`.
    pub registrations_per_hour: u32,
    /// Stanzas sent to one client that it has not acknowledged (XEP-0198) and that are remembered. Past the half of it
    /// messages for it are left in the log; past the whole nothing more is remembered.
    pub sm_unacked_stanzas: u32,
    /// Bytes of those stanzas, with the same two marks. Never more than `output_backlog_bytes`, because they may have
    /// to be sent again all at once.
    pub sm_unacked_bytes: u32,
    /// Bytes, beside references into the log and into archives of rooms, that a session without a connection keeps of what its client has not
    /// acknowledged, and again as many of what is held back for it.
    pub detached_bytes: u32,
    /// Seconds for which a session without a connection waits to be resumed (XEP-0198 §5). 0: no resumption.
    pub sm_resume_seconds: u32,
    /// Sessions of one worker that wait to be resumed. One more ends as if it had no resumption.
    pub sm_detached_sessions: u32,
    /// Messages that may wait in the log for one account. One more is refused with `resource-constraint`.
    pub offline_messages: u64,
    /// Bytes of those messages. One more is refused with `resource-constraint`.
    pub offline_bytes: u64,
    /// Part of the messages and bytes that may wait for one account which one of its contacts may have waiting, in
    /// percent. One more is refused with `resource-constraint`.
    pub offline_percent_per_contact: u8,
    /// The same of one sender who is no contact.
    pub offline_percent_per_stranger: u8,
    /// The same of all senders together who are no contacts.
    pub offline_percent_strangers: u8,
    /// Messages in a minute that all strangers together may leave for an account without an available resource, once more waits
    /// for it than one stranger may leave. One more is refused with `resource-constraint`.
    pub offline_strangers_per_minute: u32,
    /// Days after which a message that waits is dropped.
    pub offline_days: u32,
    /// Seconds that a drain or stop waits for clients to close their streams.
    pub drain_seconds: u32,
    /// Seconds that each step of an upgrade may take: the answer of the new program, coming to rest, letting go of
    /// sockets, the rehearsal, the restore. Past it the server goes on as it was.
    pub upgrade_seconds: u32,
}

impl Default for Limits {
    #[expect(clippy::too_many_lines, reason = "a table")]
    fn default() -> Self {
        Limits {
            sessions: 4_000_000,
            sessions_unauthenticated: 20_000,
            resources_per_user: 10,
            sessions_per_address: 32_768,
            accepts_per_second: 20_000,
            accepts_per_second_per_address: 20_000,
            preauth_seconds: 30,
            preauth_bytes: 10 * 1024,
            sasl_attempts: 3,
            guesses_per_address_and_account: 20,
            guesses_per_account: 100,
            guesses_per_address: 300,
            known_addresses: 1 << 20,
            stanza_bytes: 256 * 1024,
            header_bytes: 4 * 1024,
            depth: 64,
            attributes: 64,
            output_backlog_bytes: 2 * 1024 * 1024,
            mailbox_parcels: 1024,
            mailbox_kib: 8192,
            mailbox_recipients: 2048,
            connection_stanzas_per_second: 5_000,
            connection_stanzas_burst: 20_000,
            connection_work_per_second: 200_000,
            connection_work_burst: 1_000_000,
            account_stanzas_per_second: 10_000,
            account_stanzas_burst: 40_000,
            account_work_per_second: 300_000,
            account_work_burst: 1_500_000,
            contacts_bytes: 4 * 1024 * 1024,
            idle_seconds: 300,
            idle_answer_seconds: 60,
            directory_queue: 65_536,
            held_bytes: 4 * 1024 * 1024,
            crypto_queue: 4_096,
            directed_presence: 100,
            memory_mib: 0,
            account_memory_kib: 4096,
            roster_items: 1000,
            roster_bytes: 1024 * 1024,
            roster_requests: 1000,
            roster_request_bytes: 4 * 1024,
            presence_bytes: 16 * 1024,
            roster_groups: 32,
            roster_name_bytes: 1023,
            inactive_bytes: 64 * 1024,
            blocked_jids: 1_000,
            private_bytes: 1024 * 1024,
            pep_nodes: 256,
            pep_items: 1000,
            pep_item_bytes: 256 * 1024,
            pep_bytes: 8 * 1024 * 1024,
            pep_members: 1000,
            pep_answer_bytes: 512 * 1024,
            pep_payload_bytes: 64 * 1024,
            caps_hashes: 4096,
            caps_nodes: 64,
            registrations_per_hour: 5,
            sm_unacked_stanzas: 4_096,
            sm_unacked_bytes: 1024 * 1024,
            detached_bytes: 128 * 1024,
            sm_resume_seconds: 600,
            sm_detached_sessions: 1_000_000,
            offline_messages: 25_000,
            offline_bytes: 64 * 1024 * 1024,
            offline_percent_per_contact: 25,
            offline_percent_per_stranger: 2,
            offline_percent_strangers: 10,
            offline_strangers_per_minute: 60,
            offline_days: 30,
            drain_seconds: 10,
            upgrade_seconds: 30,
        }
    }
}

/// RFC 6120 §13.12: a server must accept stanzas of at least this many bytes.
pub const STANZA_BYTES_FLOOR: u32 = 10_000;

/// Seconds that are allowed for a silent client to be found among all others, and for the server to be started again after a crash.
const RESUME_SLACK_SECONDS: u64 = 60;

impl Limits {
    /// What a mailbox between two workers takes on each road.
    pub fn mailbox_room(&self) -> Room {
        let size = Size { bytes: self.mailbox_kib as usize * 1024, weight: self.mailbox_recipients as usize };
        Room { batches: self.mailbox_parcels as usize, size }
    }

    /// Seconds before a start from which on the log is read for streams that might have been resumed. A client that has gone without a
    /// word was last heard long before its session began to wait.
    pub fn resume_window_seconds(&self) -> u64 {
        let silence = u64::from(self.idle_seconds) + u64::from(self.idle_answer_seconds);
        match self.sm_resume_seconds {
            0 => 0,
            waits => u64::from(waits) + silence + RESUME_SLACK_SECONDS,
        }
    }

    /// Bytes of stanzas sent to one client that it has not acknowledged.
    pub fn unacked_bytes(&self) -> usize {
        self.sm_unacked_bytes.min(self.output_backlog_bytes) as usize
    }

    /// Bytes of one roster: as an answer it must not be longer than what may wait.
    pub fn roster_bytes(&self) -> usize {
        self.roster_bytes.min(self.output_backlog_bytes / 2) as usize
    }

    /// Bytes of an answer with items: it must not be longer than what may wait.
    pub fn pep_answer_bytes(&self) -> usize {
        self.pep_answer_bytes.min(self.output_backlog_bytes / 2) as usize
    }

    /// Checks the relations between limits; the text says what is wrong and what to do.
    pub fn check(&self) -> Result<(), String> {
        self.check_relations()?;
        self.check_mailbox()?;
        for (name, value) in self.at_least_one() {
            if value == 0 {
                return Err(format!("limits.{name} is 0; set it to at least 1"));
            }
        }
        self.check_floors()
    }

    /// Limits of which one is a multiple of another.
    fn check_relations(&self) -> Result<(), String> {
        if self.stanza_bytes < STANZA_BYTES_FLOOR {
            return Err(format!(
                "limits.stanza_bytes is {}, but RFC 6120 §13.12 requires at least {STANZA_BYTES_FLOOR}",
                self.stanza_bytes
            ));
        }
        if self.output_backlog_bytes < 2 * self.stanza_bytes {
            return Err(format!(
                "limits.output_backlog_bytes is {}, but must be at least twice limits.stanza_bytes ({})",
                self.output_backlog_bytes, self.stanza_bytes
            ));
        }
        if self.memory_mib > 0 && u64::from(self.memory_mib) * 1024 < 8 * u64::from(self.account_memory_kib) {
            return Err(format!(
                "limits.memory_mib is {}, but must be at least eight times limits.account_memory_kib ({} KiB)",
                self.memory_mib, self.account_memory_kib
            ));
        }
        if u64::from(self.account_memory_kib) * 1024 < 2 * u64::from(self.output_backlog_bytes) {
            return Err(format!(
                "limits.account_memory_kib is {}, but must be at least twice limits.output_backlog_bytes ({})",
                self.account_memory_kib, self.output_backlog_bytes
            ));
        }
        if self.sm_unacked_bytes < 2 * self.stanza_bytes {
            return Err(format!(
                "limits.sm_unacked_bytes is {}, but must be at least twice limits.stanza_bytes ({})",
                self.sm_unacked_bytes, self.stanza_bytes
            ));
        }
        Ok(())
    }

    /// Limits that must not be 0.
    fn at_least_one(&self) -> [(&'static str, u64); 37] {
        [
            ("sessions", self.sessions.into()),
            ("sessions_unauthenticated", self.sessions_unauthenticated.into()),
            ("resources_per_user", self.resources_per_user.into()),
            ("sessions_per_address", self.sessions_per_address.into()),
            ("accepts_per_second", self.accepts_per_second.into()),
            ("accepts_per_second_per_address", self.accepts_per_second_per_address.into()),
            ("preauth_seconds", self.preauth_seconds.into()),
            ("sasl_attempts", self.sasl_attempts.into()),
            ("guesses_per_address_and_account", self.guesses_per_address_and_account.into()),
            ("guesses_per_account", self.guesses_per_account.into()),
            ("guesses_per_address", self.guesses_per_address.into()),
            ("known_addresses", self.known_addresses.into()),
            ("mailbox_parcels", self.mailbox_parcels.into()),
            ("mailbox_kib", self.mailbox_kib.into()),
            ("mailbox_recipients", self.mailbox_recipients.into()),
            ("connection_stanzas_per_second", self.connection_stanzas_per_second.into()),
            ("connection_stanzas_burst", self.connection_stanzas_burst.into()),
            ("connection_work_per_second", self.connection_work_per_second.into()),
            ("connection_work_burst", self.connection_work_burst.into()),
            ("account_stanzas_per_second", self.account_stanzas_per_second.into()),
            ("account_stanzas_burst", self.account_stanzas_burst.into()),
            ("account_work_per_second", self.account_work_per_second.into()),
            ("account_work_burst", self.account_work_burst.into()),
            ("directory_queue", self.directory_queue.into()),
            ("crypto_queue", self.crypto_queue.into()),
            ("idle_seconds", self.idle_seconds.into()),
            ("offline_messages", self.offline_messages),
            ("offline_bytes", self.offline_bytes),
            ("offline_percent_per_contact", self.offline_percent_per_contact.into()),
            ("offline_percent_per_stranger", self.offline_percent_per_stranger.into()),
            ("offline_percent_strangers", self.offline_percent_strangers.into()),
            ("offline_strangers_per_minute", self.offline_strangers_per_minute.into()),
            ("offline_days", self.offline_days.into()),
            ("pep_items", self.pep_items.into()),
            ("caps_hashes", self.caps_hashes.into()),
            ("caps_nodes", self.caps_nodes.into()),
            ("upgrade_seconds", self.upgrade_seconds.into()),
        ]
    }

    /// Limits below which no client can do the least.
    fn check_floors(&self) -> Result<(), String> {
        if self.roster_request_bytes < 512 {
            return Err(format!(
                "limits.roster_request_bytes is {}, but a request without any text needs up to 512",
                self.roster_request_bytes
            ));
        }
        if self.presence_bytes < 1024 {
            return Err(format!(
                "limits.presence_bytes is {}, but what clients say of themselves needs up to 1024",
                self.presence_bytes
            ));
        }
        if self.sm_unacked_stanzas < 16 {
            return Err(
                "limits.sm_unacked_stanzas must be at least 16: clients acknowledge now and then".into()
            );
        }
        if self.depth < 8 || self.attributes < 8 || self.header_bytes < 512 || self.preauth_bytes < 2048 {
            return Err(
                "limits.depth and limits.attributes must be at least 8, limits.header_bytes at least 512 \
                        and limits.preauth_bytes at least 2048, or no client can log in"
                    .into(),
            );
        }
        Ok(())
    }
}

impl Limits {
    /// Messages of rooms that may be spooled for one account ([`crate::user::spool`]): their index is within a sixteenth of its memory.
    pub fn spooled_messages(&self) -> u64 {
        self.offline_messages / SPOOLED_PART
    }

    /// Checks what one account may have waiting.
    fn check_mailbox(&self) -> Result<(), String> {
        let percents = [
            ("per_stranger", self.offline_percent_per_stranger, self.offline_percent_strangers),
            ("strangers", self.offline_percent_strangers, 100),
            ("per_contact", self.offline_percent_per_contact, 100),
        ];
        if let Some((name, value, most)) = percents.iter().find(|(_, value, most)| value > most) {
            return Err(format!(
                "limits.offline_percent_{name} is {value}, but must be at most {most}: one stranger's part is in that \
                 of all, and that in the whole"
            ));
        }
        let index_bytes = self.offline_messages.saturating_mul(INDEX_MESSAGE_BYTES_MAX);
        let quarter = u64::from(self.account_memory_kib) * 1024 / 4;
        if index_bytes > quarter {
            return Err(format!(
                "limits.offline_messages is {}, whose index may take {index_bytes} bytes of memory, but it must fit a quarter \
                 of limits.account_memory_kib ({} KiB); allow fewer messages or {} KiB",
                self.offline_messages,
                self.account_memory_kib,
                index_bytes.div_ceil(256)
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_of_a_mailbox_fits_the_memory_of_its_account() {
        let limits = Limits { offline_messages: 100_000, ..Limits::default() };
        let refused = limits.check().unwrap_err();
        assert!(refused.contains("15625 KiB"), "{refused}");
        let limits = Limits { account_memory_kib: 15_625, ..limits };
        assert_eq!(limits.check(), Ok(()));
    }

    #[test]
    fn the_defaults_agree_with_each_other() {
        assert_eq!(Limits::default().check(), Ok(()));
    }

    #[test]
    fn a_stanza_limit_below_the_rfc_minimum_is_refused() {
        let limits = Limits { stanza_bytes: 9_999, ..Limits::default() };
        assert!(limits.check().unwrap_err().contains("stanza_bytes"));
    }
}
