//! The server's counters and gauges: one cache-line-padded block per worker, written by that worker only.
//!
//! A metric is declared once, in the table below, with its kind, unit and meaning. Workers add to their own
//! block without a locked instruction; readers sum over the blocks. The blocks lie in the stats file (see
//! [`crate::stats`]), where `wsar` reads them. docs/metrics.md is made from the table.

pub use whimbrel_stats::{Cell, Description, Histogram, Kind};

macro_rules! worker_metrics {
    ($($rows:tt)*) => {
        whimbrel_stats::metrics! {
            /// The metrics of one worker.
            WorkerMetrics { $($rows)* }
        }
    };
}

/// What each value of [`WorkerMetrics::values`] is, in the same order.
pub const DESCRIPTIONS: &[Description] = <WorkerMetrics as whimbrel_stats::Block>::DESCRIPTIONS;

worker_metrics! {
    connections "connections" Gauge "connections" "Open client connections.";
    sessions "sessions" Gauge "sessions" "Bound resources.";
    users "users" Gauge "accounts" "Accounts with at least one bound resource.";
    websocket_connections "websocket.connections" Gauge "connections" "Of the open client connections: those over WebSocket.";
    tls_sessions "tls_sessions" Gauge "connections" "Connections whose TLS handshake is complete.";
    accepts "accepts" Counter "connections" "Connections accepted.";
    websocket_accepts "websocket.accepts" Counter "connections" "Of the accepted connections: those taken from the HTTP server, over WebSocket.";
    websocket_pings "websocket.pings" Counter "frames" "Pings of WebSocket clients, each of which was answered.";
    tls_handshakes "tls.handshakes" Counter "handshakes" "TLS handshakes completed.";
    tls_failures "tls.failures" Counter "connections" "Connections ended by a TLS error.";
    logins "logins" Counter "logins" "SASL exchanges that succeeded.";
    login_failures "logins.failed" Counter "logins" "Logins that failed, for whatever reason: the sum of the next four and refused.login_throttle.";
    login_credentials "logins.failed.credentials" Counter "logins" "Of these: a wrong password or key, or no such account.";
    login_protocol "logins.failed.protocol" Counter "logins" "Of these: messages against the mechanism's rules, or a mechanism that is not offered.";
    login_aborted "logins.failed.aborted" Counter "logins" "Of these: given up by the client.";
    login_unavailable "logins.failed.unavailable" Counter "logins" "Of these: the server could not look (limits.crypto_queue, or the directory).";
    login_delayed "logins.delayed" Counter "logins" "Answers to passwords and proofs that were held back because of earlier failures.";
    login_waited "logins.waited" Counter "logins" "Passwords and proofs that waited before they were looked at or refused, because of too many failed logins of an account, an address or a network (limits.guesses_per_…).";
    login_unlogged "logins.unlogged" Counter "logins" "Failed logins without a line of their own in the log: there were too many in their second.";
    registrations "registrations" Counter "accounts" "Accounts opened by clients (XEP-0077).";
    binds "binds" Counter "sessions" "Resources bound.";
    migrations "migrations" Counter "connections" "Connections handed to their user's home worker.";
    bytes_in "bytes.in" Counter "bytes" "Bytes read from clients, as on the wire.";
    bytes_out "bytes.out" Counter "bytes" "Bytes written to clients, as on the wire.";
    messages_in "messages.in" Counter "stanzas" "Message stanzas from clients.";
    presences_in "presences.in" Counter "stanzas" "Presence stanzas from clients.";
    iqs_in "iqs.in" Counter "stanzas" "IQ stanzas from clients.";
    messages_out "messages.out" Counter "stanzas" "Message stanzas to clients, carbons included.";
    presences_out "presences.out" Counter "stanzas" "Presence stanzas to clients.";
    iqs_out "iqs.out" Counter "stanzas" "IQ stanzas to clients.";
    ignored "messages.ignored" Counter "messages" "Messages of strangers that were not taken and not answered: there is no such account, its owner blocks them, or is away or reads too slowly for what is kept nowhere (docs/protocol.md).";
    message_latency "messages.latency" Histogram "microseconds" "Time of messages that are delivered as they come: from the reception of their last byte to the hand-over of it to the kernel for their recipient, over other workers, the run queue and the output that waits for a slow reader. What waits together counts as its oldest.";
    prompt_latency "messages.prompt_latency" Histogram "microseconds" "The same of messages from one to one of clients that have asked for no more than their share of a turn for a second, and that did not wait for their recipient, behind output that it had not taken yet or because the kernel did not take all of theirs at once: what becomes of everybody else's messages while somebody floods.";
    ack_latency "messages.ack_latency" Histogram "microseconds" "The same to the acknowledgement of the recipient (XEP-0198). Taken of one message of a stream at a time, of up to 256 streams of a worker.";
    errors_out "stanza_errors.out" Counter "stanzas" "Stanza errors to clients.";
    stream_errors "stream_errors" Counter "streams" "Streams that the server ended with an error.";
    held_inactive "inactive.held" Counter "stanzas" "Stanzas held back for inactive clients (XEP-0352).";
    carbons_skipped "carbons.skipped" Counter "stanzas" "Carbon copies not made because their client reads slowly.";
    sm_enabled "sm.enabled" Counter "streams" "Streams on which stream management was enabled (XEP-0198).";
    detached "sm.detached" Gauge "sessions" "Sessions without a connection that wait to be resumed.";
    references "sm.references" Gauge "messages" "Messages of rooms that sessions without a connection have as references into the rooms' archives, or into the log where a room has none (half of limits.sm_unacked_stanzas and limits.sm_unacked_bytes each).";
    spooled "sm.spooled" Counter "messages" "Messages of rooms without an archive that a worker has written to its log for sessions without a connection, as a rule once for all of them.";
    recalled "sm.recalled" Counter "messages" "Of those, read from archives for sessions that were resumed.";
    recalls_high "sm.recalls" HighWater "sessions" "Most sessions of one worker for which they were read at once (at most 64; others wait).";
    asleep "sm.asleep" Gauge "sessions" "Of sm.detached, those that contacts see as gone: their devices are told by push, and they can be resumed for push.resume_hours.";
    resumed "sm.resumed" Counter "sessions" "Sessions resumed.";
    resume_failed "sm.resume_failed" Counter "requests" "Requests to resume a session that is not there.";
    resume_expired "sm.expired" Counter "sessions" "Sessions that nobody resumed in time.";
    fallen_asleep "sm.fallen_asleep" Counter "sessions" "Sessions that sleep from then on: their contacts have been told that they are gone.";
    woken "sm.woken" Counter "sessions" "Sessions that slept and were resumed.";
    counts_unwritten "sm.counts_unwritten" Counter "writes" "Sessions that fell asleep without the directory having how much of their streams was handled (sm.counts), and sessions that could not be resumed because it was not removed there: limits.directory_queue, or a failed write. After a crash the former hear no h; the latter log in anew.";
    sent_again "sm.sent_again" Counter "stanzas" "Stanzas sent again to resumed sessions.";
    log_pending "log.pending" Gauge "messages" "Messages in the log that no recipient has acknowledged.";
    log_appends "log.appends" Counter "messages" "Messages appended to the log.";
    log_bytes "log.bytes" Counter "bytes" "Bytes of those messages.";
    log_trims "log.trims" Counter "messages" "Messages that left the log because their recipients have them.";
    log_commits "log.commits" Counter "commits" "Iterations whose messages were committed.";
    log_commit_time "log.commit_time" Counter "microseconds" "Time from asking for those commits to learning of them.";
    log_commit_longest "log.commit_longest" HighWater "microseconds" "Longest of those times.";
    log_waiting "queue.commit.length" Gauge "messages" "Messages whose senders wait for a commit.";
    log_waiting_fullest "queue.commit.fullest" HighWater "messages" "Stanzas of the client that waits for most commits, in this round of the samples of memory.";
    log_waiting_high "queue.commit.high_water" HighWater "messages" "Most messages whose senders ever waited for a commit.";
    settled "log.settled" Counter "messages" "Copies of messages, the recipient's and that of the sender's archive, of which senders' streams were told that they are durable, or need not be.";
    redelivered "log.delivered_later" Counter "messages" "Messages delivered out of the log, not as they came.";
    fell_behind "log.behind" Counter "times" "Resources that were left to the log because they read too slowly.";
    log_expired "log.expired" Counter "messages" "Messages dropped after limits.offline_days.";
    log_orphans "log.orphans" Counter "messages" "Messages dropped at the start because the directory does not have their accounts.";
    log_damaged "log.damaged" Counter "messages" "Messages that could not be read from the log.";
    log_compacted "log.compacted" Counter "bytes" "Bytes copied to free disk space.";
    archive_messages "archive.messages" Counter "messages" "Copies of messages that went into an archive.";
    archive_rows "archive.rows" Counter "rows" "Rows of the archives' index written to the directory, each of up to 64 messages.";
    archive_cut "archive.cut" Counter "messages" "Oldest messages of accounts that had more than archive.mib_per_account.";
    archive_crowded "archive.crowded" Counter "messages" "Oldest messages of the largest archives, because all together had more than archive.mib_max.";
    archive_expired "archive.expired" Counter "messages" "Messages whose rows were removed, because they were too old (archive.days), their accounts are gone, or their files are.";
    archive_pressed "archive.pressed" Counter "times" "Times that a log which had nearly reached log_mib_max, or whose disk was full, let go of a file of its oldest archived messages before archive.days were over.";
    archive_memory "archive.memory" Gauge "bytes" "Memory of the archives' index: of messages that no row has yet (archive.memory_mib each worker).";
    archive_refused "refused.archive" Counter "messages" "Sent messages that went on without a copy in their senders' archives, because the log took none.";
    retractions "archive.retractions" Counter "retractions" "Retractions of messages (XEP-0424) that took effect, once in the archive of each side.";
    retracted "archive.retracted" Counter "messages" "Messages of archives that were retracted: something else stands for their texts.";
    retracted_waiting "archive.retracted_waiting" Counter "messages" "Messages that were retracted while they waited in a mailbox, and left it.";
    retracted_copies "archive.retracted_copies" Counter "messages" "Retracted messages, in copies (XEP-0280) and pages of archives too, that a session would have got again when it is resumed, and will not.";
    refused_retractions "refused.retractions" Counter "messages" "Refused: archive.retractions.";
    archive_erased "archive.erased" Counter "messages" "Texts that no archive has any more and that were taken out of the files of the log.";
    archive_to_erase "archive.to_erase" Gauge "erasures" "Erasures (of a message, of a part of an archive, of an account) whose texts may be on the disk still.";
    archive_to_erase_age "archive.to_erase_age" Gauge "seconds" "Time since the oldest of them; to stay below archive.erase_days.";
    archive_queries "archive.queries" Counter "queries" "Queries of archives.";
    archive_pages "archive.pages" Counter "pages" "Pages of accounts' archives given to their ends.";
    archive_returned "archive.returned" Counter "messages" "Messages of archives given to clients that asked for them.";
    archive_active "archive.active" Gauge "queries" "Queries of archives that are being answered.";
    archive_continuations "archive.continuations" Gauge "bytes" "Memory of what is known of the next pages of clients that read all of their archives: some 5 MiB each worker at most, for 10 s.";
    archive_continued "archive.continued" Counter "pages" "Pages of such clients that were given from memory, without a reader's thread.";
    archive_latency "archive.latency" Histogram "milliseconds" "Time from a query of an archive to the end of its page, which the client's reading decides if it is long.";
    refused_archive_queries "refused.archive_queries" Counter "queries" "Refused: archive.queries.";
    pep_published "pep.published" Counter "items" "Items published to nodes of accounts (XEP-0163).";
    pep_notified "pep.notified" Counter "messages" "Messages by which clients heard of what happened to a node.";
    pep_last_items "pep.last_items" Counter "messages" "Last items of nodes sent to clients that came online, or wanted to hear of a node from then on.";
    refused_pep_item "refused.pep_item_bytes" Counter "requests" "Refused: limits.pep_item_bytes.";
    pubsub_published "pubsub.published" Counter "items" "Items published to nodes of the publish-subscribe service (XEP-0060).";
    pubsub_notified "pubsub.notified" Counter "messages" "Messages by which subscribers heard of what happened to one of them.";
    pubsub_last_items "pubsub.last_items" Counter "messages" "Last items of them sent to new subscribers, and to subscribers that came online.";
    refused_pubsub "refused.pubsub_limits" Counter "requests" "Refused: pubsub.nodes_max, pubsub.mib_max, pubsub.mib_per_node, pubsub.members_max, pubsub.per_account or pubsub.owned_per_account.";
    refused_pubsub_item "refused.pubsub_item_bytes" Counter "requests" "Refused: pubsub.item_bytes.";
    refused_upload "refused.upload_limits" Counter "requests" "Slots for uploads refused: upload.mib_max, upload.account_slots_max or another limit of an account's uploads.";
    refused_upload_bytes "refused.upload_bytes" Counter "requests" "Slots for uploads refused: upload.file_mib_max.";
    caps_hashes "caps.hashes" Gauge "hashes" "Hashes of capabilities (XEP-0115) that clients announce, or that are still known.";
    caps_queries "caps.queries" Counter "queries" "Clients that were asked what their hash stands for.";
    caps_refused_answers "caps.refused_answers" Counter "answers" "Answers to that which were none, or had another hash.";
    refused_caps "refused.caps_hashes" Counter "sessions" "Clients that hear of no node until they announce something else: limits.caps_hashes or limits.caps_nodes.";
    rooms "rooms.active" Gauge "rooms" "Rooms in memory: somebody is in them, or they have something to do.";
    room_occupants "rooms.occupants" Gauge "occupants" "Occupants of rooms.";
    rooms_made "rooms.made" Counter "rooms" "Rooms made by users (XEP-0045).";
    rooms_destroyed "rooms.destroyed" Counter "rooms" "Rooms destroyed, those included that nobody was in any more.";
    room_joins "rooms.joins" Counter "seats" "Times that a client entered a room.";
    room_messages "rooms.messages" Counter "messages" "Messages said to everybody in a room.";
    room_deliveries "rooms.deliveries" Counter "messages" "Of these and of histories: messages given to clients.";
    room_moderated "rooms.moderated" Counter "messages" "Messages that moderators took back (XEP-0425).";
    room_requests "rooms.requests" Counter "iqs" "Requests of occupants that were passed on to other occupants.";
    room_seats_lost "rooms.seats_lost" Counter "seats" "Seats that ended because their clients read too slowly for what was said, or had no room for it while they were away.";
    joins_high "rooms.changes_waiting" HighWater "requests" "Most requests to rooms of one worker that waited at once for invitations and bookmarks at the homes of others.";
    room_waiting "rooms.waiting" Gauge "bytes" "Bytes of stanzas that wait for rooms that write to the directory or read their archives (rooms.waiting_kib each).";
    room_additions_asked "rooms.additions_asked" Counter "accounts" "Accounts that were made members of private groups by those who may not put them there (rooms.add, or the account's own setting), and got an invitation in place of a bookmark.";
    room_links_used "rooms.links_used" Counter "accounts" "Accounts that became members by a link (whimbrelctl room invite).";
    room_clients "rooms.clients" Gauge "clients" "Clients that are in rooms, or have been of late, as far as the rooms' homes know them: a worker knows each once.";
    room_presences "rooms.presences" Gauge "texts" "Different presences that occupants of rooms have, or have had of late; a worker keeps each once.";
    room_gave_way "rooms.gave_way" Counter "pauses" "Times that a room for which much had waited let others of its worker have their turn first.";
    refused_rooms "refused.rooms" Counter "rooms" "Refused: rooms.per_account or rooms.created_per_hour.";
    refused_room_full "refused.room_occupants" Counter "seats" "Refused: rooms.occupants_max, or the number for which the room is configured.";
    refused_room_members "refused.room_members" Counter "requests" "Refused: rooms.members_max or rooms.bans_max.";
    refused_room_links "refused.room_links" Counter "links" "Refused: rooms.links_max.";
    refused_room_rate "refused.room_messages" Counter "messages" "Refused: rooms.occupant_messages_per_second or rooms.room_messages_per_second.";
    refused_room_password "refused.room_passwords" Counter "seats" "Refused: rooms.wrong_passwords_per_hour.";
    refused_room_text "refused.room_text" Counter "requests" "Refused: rooms.nick_bytes or rooms.subject_bytes.";
    refused_room_waiting "refused.room_waiting" Counter "stanzas" "Refused: rooms.waiting_kib, or 4,096 changes of rooms on one worker that wait for what follows from them at the homes of others.";
    refused_invitations "refused.room_strangers" Counter "invitations" "Refused: rooms.strangers_per_hour.";
    log_reopened "log.reopened" Counter "times" "Times the log was opened again after it had failed.";
    log_pauses "log.pauses" Counter "times" "Reading from a client paused because too many of its messages wait for a commit.";
    refused_offline "refused.offline" Counter "messages" "Refused: limits.offline_messages or limits.offline_bytes.";
    refused_offline_sender "refused.offline_sender" Counter "messages" "Refused: limits.offline_percent_per_contact or limits.offline_percent_per_stranger.";
    refused_offline_strangers "refused.offline_strangers" Counter "messages" "Refused: limits.offline_percent_strangers.";
    refused_offline_rate "refused.offline_strangers_per_minute" Counter "messages" "Refused: limits.offline_strangers_per_minute.";
    offline_counted "offline.counted" Gauge "accounts" "Accounts for which so much waits that it is counted by sender.";
    refused_log_full "refused.log_full" Counter "messages" "Refused: no room for another file of the log (the log says whether the disk is full or file descriptors ran out), or log_mib_max is reached.";
    refused_log_failed "refused.log_failed" Counter "messages" "Refused: the log has failed, or does not take the message.";
    refused_unacked "refused.sm_unacked" Counter "streams" "Streams that can no longer be resumed: limits.sm_unacked_stanzas, limits.sm_unacked_bytes or limits.detached_bytes.";
    unremembered "sm.unremembered" Counter "stanzas" "Stanzas sent that a resumed stream would not get again: limits.sm_unacked_stanzas or limits.sm_unacked_bytes.";
    refused_memory "refused.memory" Counter "connections" "Connections refused or ended, and sessions without one ended: limits.memory_mib.";
    memory_unacked "memory.unacked" Gauge "bytes" "Memory of what clients have not acknowledged (XEP-0198); sampled in rounds of some seconds, as the next four.";
    memory_held "memory.held" Gauge "bytes" "Memory of stanzas held back for inactive, slow or absent clients.";
    memory_presence "memory.presence" Gauge "bytes" "Memory of the last presence of sessions, and of addresses that have directed presence.";
    memory_unfinished "memory.unfinished" Gauge "bytes" "Memory of stanzas that have not come to their end.";
    memory_detached "memory.detached" Gauge "bytes" "Of memory.unacked and memory.held, that of sessions without a connection.";
    mailbox_bytes "mailbox.bytes" Gauge "bytes" "Bytes of batches that wait for room in a mailbox.";
    mailbox_bytes_high "mailbox.bytes_high_water" HighWater "bytes" "Most bytes of batches that ever waited for room in a mailbox.";
    refused_account_memory "refused.account_memory" Counter "stanzas" "Presence refused, long stanzas not read to their end, and connections reset with what could not be left out: limits.account_memory_kib.";
    account_memory_high "memory.account.high_water" HighWater "bytes" "The most that one account has made the server hold, as it was seen when one of its resources had more than its part.";
    account_stripped "memory.account.stripped" Counter "sessions" "Times that a session without a connection gave up what it held, or ended, for the others of its account: limits.account_memory_kib.";
    refused_answers "refused.answers" Counter "requests" "Refused, to be asked again: limits.output_backlog_bytes or limits.account_memory_kib has no room for the answer.";
    dropped_output "output.dropped" Counter "stanzas" "Not delivered, because too much waits for the recipient: presence, which is asked for again, and what is kept nowhere, whose sender is told.";
    presence_refreshed "presence.refreshed" Counter "sessions" "Sessions whose contacts were asked for their presence again, because some had been dropped.";
    refused_asleep "refused.sm_asleep" Counter "sessions" "Sessions that slept and ended because more waited for them than push.resume_stanzas or push.resume_kib.";
    refused_detached "refused.sm_detached_sessions" Counter "sessions" "Ended instead of waiting: limits.sm_detached_sessions, or limits.detached_bytes for what they cannot do without.";
    refused_sessions "refused.sessions" Counter "connections" "Refused: limits.sessions.";
    refused_unauthenticated "refused.sessions_unauthenticated" Counter "connections" "Refused: limits.sessions_unauthenticated.";
    displaced "refused.displaced" Counter "connections" "Ended before they had logged in, because others needed their places (limits.sessions_unauthenticated).";
    refused_accepts "refused.accepts_per_address" Counter "connections" "Turned away: limits.accepts_per_second_per_address, or more than their share of limits.accepts_per_second.";
    refused_address "refused.sessions_per_address" Counter "connections" "Refused: limits.sessions_per_address.";
    refused_resources "refused.resources_per_user" Counter "sessions" "Refused: limits.resources_per_user.";
    refused_preauth_time "refused.preauth_seconds" Counter "connections" "Ended: limits.preauth_seconds.";
    refused_preauth_bytes "refused.preauth_bytes" Counter "connections" "Ended: limits.preauth_bytes.";
    refused_framing "refused.framing" Counter "streams" "Ended: XML that is not well formed or past a limit.";
    refused_websocket_frames "refused.websocket_frames" Counter "connections" "Ended: frames of WebSocket against its rules.";
    refused_websocket_size "refused.websocket_bytes" Counter "connections" "Ended: a message of WebSocket longer than limits.stanza_bytes.";
    refused_backlog "refused.output_backlog_bytes" Counter "connections" "Ended: limits.output_backlog_bytes.";
    refused_directory "refused.directory_queue" Counter "requests" "Refused: limits.directory_queue.";
    refused_held "refused.held_bytes" Counter "stanzas" "Refused: limits.held_bytes, of which their senders had their part.";
    refused_crypto "refused.crypto_queue" Counter "logins" "Refused: limits.crypto_queue.";
    refused_throttled "refused.login_throttle" Counter "logins" "Refused unheard: too many failed logins of an account, an address or a network (limits.guesses_per_…).";
    refused_elements "refused.elements" Counter "stanzas" "Refused: more than 8,192 elements and attributes in a stanza, or 1,024 elements beside each other in a message.";
    refused_presence "refused.presence_bytes" Counter "presences" "Refused: limits.presence_bytes.";
    refused_roster "refused.roster" Counter "requests" "Refused: limits.roster_items, limits.roster_requests or limits.roster_request_bytes.";
    refused_registrations "refused.registrations_per_hour" Counter "requests" "Refused: limits.registrations_per_hour.";
    refused_account "refused.account_limits" Counter "requests" "Refused: limits.blocked_jids, limits.private_bytes, limits.pep_nodes, limits.pep_bytes, limits.pep_members, push.devices or, in a roster set, limits.roster_items.";
    refused_push_rate "refused.push_rate" Counter "notifications" "Refused: push.per_device_per_hour or push.per_account_per_hour.";
    refused_push_queue "refused.push_queue" Counter "notifications" "Refused: push.queue, or push.accounts_remembered for what waits; the device is told when its pause is over, or of the next message.";
    push_told "push.told" Counter "notifications" "Notifications handed to providers because something waits for a device.";
    push_members "push.members" Counter "members" "Members of rooms who may have a device and whose homes were sent a message of the room for it.";
    push_coalesced "push.coalesced" Counter "messages" "Messages of which a device was not told at once, because it had just been told of another.";
    push_waiting "push.waiting" Gauge "notifications" "Looks whether a message was acknowledged, and devices that are told in a moment (push.accounts_remembered of each worker).";
    push_remembered "push.remembered" Gauge "accounts" "Accounts of which it is remembered what their devices were told (push.accounts_remembered).";
    pings_sent "pings.sent" Counter "pings" "Clients that were pinged, because they had been silent for limits.idle_seconds.";
    pings_answered "pings.answered" Counter "pings" "Of those, the ones that answered; others may say something else instead, or are counted under refused.idle.";
    refused_idle "refused.idle" Counter "connections" "Ended: no answer to the server's ping.";
    accept_rate_pauses "accept.rate_pauses" Counter "times" "Accepting paused by limits.accepts_per_second.";
    accept_descriptor_pauses "accept.descriptor_pauses" Counter "times" "Accepting paused for want of file descriptors or memory.";
    reading_pauses "reading.pauses" Counter "times" "Reading from a client paused because half of what may wait in its output waits there.";
    effects "effects" Counter "envelopes" "Envelopes of a worker to its own users: answers, errors and presence that events lead to.";
    effects_high "effects.high_water" HighWater "envelopes" "Most envelopes to its own users that a worker ever had after one event; at 256 of them, or 64 KiB, the rest goes through its mailbox.";
    effects_spilled "effects.spilled" Counter "times" "Events that led to more envelopes than a worker holds for itself.";
    turns_length "turns.length" Gauge "connections" "Connections that have sent more than their share of a turn and stand in the run queue.";
    turns_high "turns.high_water" HighWater "connections" "Most connections that ever stood in the run queue.";
    turns_cut "turns.cut" Counter "times" "Iterations that ended with connections left in the run queue.";
    input_held "input.held" Gauge "bytes" "Bytes read from clients that wait to be handled.";
    input_held_high "input.held_high_water" HighWater "bytes" "Most bytes read from clients that ever waited to be handled.";
    slowed "reading.slowed" Counter "times" "Reading from a client slowed down to its rate (limits.connection_… and limits.account_…).";
    buckets "buckets" Gauge "buckets" "Connections and accounts that have used up a part of what they may ask for at once.";
    contacts_bytes "contacts.bytes" Gauge "bytes" "Contacts of online users kept for presence (limits.contacts_bytes).";
    rosters_read "contacts.rosters_read" Counter "rosters" "Rosters read for presence, because their contacts were not kept.";
    work "loop.work" Counter "units" "Work of the event loop in units of about a microsecond.";
    work_longest "loop.work_longest" HighWater "units" "Most work in one iteration of the event loop.";
    mailbox_stalls "mailbox.stalls" Counter "times" "Iterations that ended with a mailbox full: clients of the worker that ask for much wait.";
    mailbox_chokes "mailbox.chokes" Counter "times" "Those of them with more waiting than a mailbox takes: all clients of the worker wait.";
    mailbox_cuts "mailbox.cuts" Counter "times" "Batches of which a part was left for the next iteration, because reading it costs more than the share of one.";
    held_bytes "queue.held.length" Gauge "bytes" "Bytes of stanzas that wait for a subscription on its way to the directory.";
    held_high "queue.held.high_water" HighWater "bytes" "Most bytes of stanzas that ever waited for subscriptions on their way to the directory.";
    held_waits "held.waits" Counter "times" "Stanzas that waited at their connections, because their accounts had as much waiting for subscriptions as they may (limits.held_bytes).";
    held_stalls "held.stalls" Counter "times" "Reading from all clients of a worker paused by limits.held_bytes.";
    mailbox_letters "mailbox.letters" Counter "envelopes" "Envelopes sent to other workers.";
    backlog_bytes "queue.output.length" Gauge "bytes" "Bytes that wait to be written to clients that read slowly.";
    backlog_fullest "queue.output.fullest" HighWater "bytes" "Bytes that wait for the client for which most wait, in this round of the samples of memory.";
    backlog_high "queue.output.high_water" HighWater "bytes" "Most bytes that ever waited for one client.";
    timers "timers" Gauge "timers" "Timers set.";
    loop_iterations "loop.iterations" Counter "iterations" "Event-loop iterations.";
    loop_events "loop.events" Counter "events" "Events handled.";
    loop_busy "loop.busy" Counter "microseconds" "Time the event loop spent outside waiting.";
    loop_longest "loop.longest" HighWater "microseconds" "Longest single iteration of the event loop.";
    loop_latency "loop.latency" Histogram "microseconds" "Length of each iteration of the event loop: as long may an event have waited for its turn.";
    loop_wakeup "loop.events_per_wakeup" Histogram "events" "Events that each iteration of the event loop found.";
}

/// One sum over all workers; of a histogram, how many values it counts.
pub fn totals(workers: &[WorkerMetrics]) -> Vec<(&'static Description, u64)> {
    let rows: Vec<Vec<u64>> = workers.iter().map(WorkerMetrics::values).collect();
    DESCRIPTIONS
        .iter()
        .enumerate()
        .map(|(i, description)| {
            let values = rows.iter().map(|row| row[i]);
            let value = match description.kind {
                Kind::HighWater => values.max().unwrap_or(0),
                Kind::Counter | Kind::Gauge | Kind::Histogram => values.fold(0, u64::wrapping_add),
            };
            (description, value)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_described() {
        let mut names: Vec<_> = DESCRIPTIONS.iter().map(|d| d.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), DESCRIPTIONS.len());
        assert!(DESCRIPTIONS.iter().all(|d| d.help.ends_with('.')));
    }

    #[test]
    fn totals_add_counters_and_take_the_highest_mark() {
        let workers = [WorkerMetrics::default(), WorkerMetrics::default()];
        workers[0].logins.add(2);
        workers[1].logins.add(3);
        workers[0].backlog_high.raise(9);
        workers[1].backlog_high.raise(4);
        let total = |name| totals(&workers).into_iter().find(|(d, _)| d.name == name).expect("declared").1;
        assert_eq!((total("logins"), total("queue.output.high_water")), (5, 9));
    }
}
