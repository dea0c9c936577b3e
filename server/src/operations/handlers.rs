//! What each request does.

use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};
use whimbrel_storage::data::{self, DataError, Increment, Place};
use whimbrel_storage::jid::JidRef;
use whimbrel_storage::pace::Pace;

use crate::clock;
use crate::control::{Answer, Backup, ControlRefusal, Problem, Request, SESSIONS_MAX};
use crate::metrics;
use crate::operations::{Control, progress};
use crate::proto::address;
use crate::proto::errors::StreamCondition;
use crate::proto::push::PushService;
use crate::proto::sm::NOT_DURABLE_MAX;
use crate::service::register::Removed;
use crate::upgrade::run::Order;
use crate::worker::command::{Command, SessionFacts};

/// How long one request waits for workers or the directory's writer.
pub(super) const WAIT_MAX: Duration = Duration::from_secs(20);

/// Bytes of sessions in one answer at most, roughly.
const SESSIONS_BYTES_MAX: usize = 3 * 1024 * 1024;

/// Pairs of workers whose mailboxes are in one answer at most; each has six rows.
const MAILBOX_PAIRS_MAX: usize = 4096;

impl Control {
    /// Does one request.
    pub(super) fn handle(&self, request: Request, client: &UnixStream) -> Answer {
        match request {
            Request::Status => self.status(),
            Request::Queues => Ok(self.queues()),
            Request::Sessions { user, max } => self.sessions(user.as_deref(), max),
            Request::Kick { jid } => self.kick(&jid),
            Request::Drain => Ok(self.about_to_end()),
            Request::Stop => Ok(self.about_to_end()),
            Request::Reload => match (self.reload)() {
                Ok(()) => Ok(json!({ "reloaded": true })),
                Err(text) => Err(Problem::new(ControlRefusal::Failed, text)),
            },
            Request::Upgrade { program } => Err(self.upgrade(program.as_deref(), client)),
            Request::Backup(order) => self.backup(&order),
            Request::UserAdd { accounts } => self.user_add(&accounts),
            Request::UserPasswd { account } => self.user_passwd(&account),
            Request::UserDel { jid } => self.user_del(&jid),
            Request::UserConfig { jid, set } => self.user_config(&jid, &set),
            Request::UserExists { jids } => self.user_exists(&jids),
            Request::UserList { after, max } => self.user_list(after.as_deref(), max),
            Request::RoomList { after, max } => self.room_list(after.as_deref(), max),
            Request::RoomShow { jid } => self.room_show(&jid),
            Request::RoomMembers { jid, after, max } => self.room_members(&jid, after.as_deref(), max),
            Request::RoomCreate { jid, owners, set } => self.room_create(&jid, &owners, &set),
            Request::RoomDestroy { jid, reason, alternate } => {
                self.room_destroy(&jid, &reason, alternate.as_deref())
            }
            Request::RoomAffiliate { jid, member, affiliation, reason } => {
                self.room_affiliate(&jid, &member, &affiliation, &reason)
            }
            Request::RoomHat { jid, member, uri, title } => {
                self.room_hat(&jid, &member, &uri, title.as_deref())
            }
            Request::RoomConfig { jid, set } => self.room_config(&jid, &set),
            Request::RoomInviteCreate { jid, uses, seconds, note } => {
                self.room_invite_create(&jid, uses, seconds, &note)
            }
            Request::RoomInviteList { jid } => self.room_invite_list(&jid),
            Request::RoomInviteRevoke { jid, id } => self.room_invite_revoke(&jid, id.as_deref()),
            Request::NodeList { after, max } => self.node_list(after.as_deref(), max),
            Request::NodeShow { node } => self.node_show(&node),
            Request::NodeMembers { node, after, max } => self.node_members(&node, after.as_deref(), max),
            Request::NodeCreate { node, owners, set } => self.node_create(&node, &owners, &set),
            Request::NodeDelete { node } => self.node_delete(&node),
            Request::NodeAffiliate { node, member, affiliation } => {
                self.node_affiliate(&node, &member, &affiliation)
            }
            Request::NodeConfig { node, set } => self.node_config(&node, &set),
            Request::PushList { jid } => self.push_list(&jid),
            Request::PushTest { jid, node } => self.push_test(&jid, node.as_deref()),
            Request::PushRemove { jid, node } => self.push_remove(&jid, node.as_deref()),
            Request::UploadList { jid, after, max } => self.upload_list(&jid, after.as_deref(), max),
            Request::UploadStats => self.upload_stats(),
            Request::UploadRemove { id, jid } => self.upload_remove(id.as_deref(), jid.as_deref()),
            Request::RegistrationStatus => self.registration_status(),
            Request::RegistrationPending { after, max } => self.registration_pending(after.as_deref(), max),
            Request::RegistrationRevoke { number } => self.registration_revoke(&number),
            Request::RegistrationTestSms { number } => self.registration_test_sms(&number),
        }
    }

    /// Upgrades the server. If that succeeds this program is no more, and the next one answers.
    fn upgrade(&self, program: Option<&Path>, client: &UnixStream) -> Problem {
        if let Some(program) = program.filter(|program| !program.is_absolute()) {
            let text = format!("{} is to be an absolute path", program.display());
            return Problem::new(ControlRefusal::BadRequest, text);
        }
        let tell = |text: &str| {
            // A client that does not listen any more need not be told.
            let _ = progress(client, text);
        };
        let order =
            Order { program, control: self.descriptor, client: Some(client.as_raw_fd()), tell: &tell };
        Problem::new(ControlRefusal::Failed, self.server.upgrade(&order))
    }

    /// Copies directory, log and uploaded files, as they are now, into a new or empty folder, or into a place for backups.
    fn backup(&self, order: &Backup) -> Answer {
        if !order.folder.is_absolute() {
            return Err(Problem::new(ControlRefusal::BadRequest, "the folder is to be an absolute path"));
        }
        if order.keep.is_some() && !order.into {
            return Err(Problem::new(ControlRefusal::BadRequest, "keep is for a place with several backups"));
        }
        let (data, directory) = (&self.server.config().data, &self.server.shared.directory);
        let mut pace = Pace::new(order.mib_per_second.map(|mib| u64::from(mib.get()) << 20));
        let (folder, now_ms) = (&order.folder, clock::unix_milliseconds());
        let done = if order.into {
            let place = Place { folder, now_ms, keep: order.keep.map(|keep| keep.get() as usize) };
            data::backup_into(data, directory, &place, &mut pace)
        } else {
            data::backup(data, directory, folder, now_ms, &mut pace).map(|done| Increment {
                folder: folder.clone(),
                done,
                removed: 0,
            })
        };
        let failed = |error: DataError| Problem::new(ControlRefusal::Failed, error.to_string());
        let Increment { folder, done, removed } = done.map_err(failed)?;
        let ends: Vec<u64> = done.ends.iter().map(|end| end.0).collect();
        Ok(json!({
            "folder": folder,
            "segments": done.segments,
            "bytes": done.bytes,
            "linked": done.linked,
            "linked_bytes": done.linked_bytes,
            "uploads": done.uploads.files,
            "uploads_bytes": done.uploads.bytes,
            "uploads_linked": done.uploads.linked,
            "uploads_objects": done.uploads.objects,
            "removed": removed,
            "positions": ends,
        }))
    }

    fn status(&self) -> Answer {
        let server = &self.server;
        let config = server.config();
        let (connections, unauthenticated) = server.shared.admission.counts();
        let accounts = server.shared.directory.account_count().map_err(unreadable)?;
        let totals: Map<String, Value> = metrics::totals(&server.shared.metrics)
            .into_iter()
            .map(|(description, value)| (description.name.into(), value.into()))
            .collect();
        Ok(json!({
            "version": env!("CARGO_PKG_VERSION"),
            "pid": std::process::id(),
            "domain": config.domain,
            "data": std::path::absolute(&config.data).unwrap_or_else(|_| config.data.clone()),
            "driver": server.driver,
            "workers": server.workers(),
            "uptime_seconds": server.started.elapsed().as_secs(),
            "draining": server.is_draining(),
            "listen": server.listening,
            "listen_tls": server.listening_tls,
            "listen_http": server.web.as_ref().map_or_else(Vec::new, |web| web.listening.clone()),
            "http_tls": config.http.tls,
            "allow_plaintext": config.allow_plaintext,
            "certificate": config.tls.certificate,
            "key": config.tls.key,
            "key_group_readable": config.tls.key_group_readable,
            "scram_iterations": config.auth.scram_iterations,
            "accounts": accounts,
            "connections": connections,
            "unauthenticated": unauthenticated,
            "metrics": totals,
        }))
    }

    fn queues(&self) -> Value {
        let server = &self.server;
        let config = server.config();
        let mut rows = Vec::new();
        let mut row =
            |queue: &str, place: String, unit: &str, (length, high_water, limit): (u64, u64, u64)| {
                rows.push(json!({
                    "queue": queue, "place": place, "unit": unit, "length": length, "fullest": length,
                    "high_water": high_water, "limit": limit,
                }));
            };
        let (length, high_water, limit) = server.writer.gauge();
        row("directory", "writer".into(), "jobs", (length as u64, high_water as u64, limit as u64));
        row("crypto", "pool".into(), "jobs", server.crypto.gauge());
        if let Some(registration) = &server.registration {
            row("sms", "gateway".into(), "messages", registration.gauge());
        }
        if let Some(notifier) = &server.notifier {
            for service in PushService::ALL {
                if let Some((gauge, _)) = notifier.outlet().gauge(service) {
                    row("push", service.name().into(), "notifications", gauge);
                }
            }
        }
        for (worker, queue) in server.completions.iter().enumerate() {
            row("completions", format!("worker {worker}"), "results", queue.gauge());
        }
        for (worker, queue) in server.commands.iter().enumerate() {
            row("commands", format!("worker {worker}"), "commands", queue.gauge());
            row("newcomers", format!("worker {worker}"), "connections", queue.newcomers_gauge());
        }
        let lanes = server.lanes.iter().enumerate();
        let lanes =
            lanes.flat_map(|(from, row)| row.iter().enumerate().map(move |(to, lane)| (from, to, lane)));
        for (from, to, lanes) in lanes.clone().take(MAILBOX_PAIRS_MAX) {
            for (lane, road) in lanes.iter().zip(["", ", requests"]) {
                let mut put = |queue, unit, (length, high, limit): (usize, usize, usize)| {
                    let gauge = (length as u64, high as u64, limit as u64);
                    row(queue, format!("worker {from} to {to}{road}"), unit, gauge);
                };
                put("mailbox", "batches", (lane.len(), lane.high_water(), lane.limit()));
                put("mailbox_bytes", "bytes", lane.bytes());
                put("mailbox_recipients", "envelopes", lane.weight());
            }
        }
        // Their limits are those of one client.
        for (worker, cells) in server.shared.metrics.iter().enumerate() {
            let limit = u64::from(config.limits.output_backlog_bytes);
            rows.push(json!({
                "queue": "output", "place": format!("worker {worker}"), "unit": "bytes",
                "length": cells.backlog_bytes.get(), "fullest": cells.backlog_fullest.get(),
                "high_water": cells.backlog_high.get(), "limit": limit,
            }));
            rows.push(json!({
                "queue": "commit", "place": format!("worker {worker}"), "unit": "messages",
                "length": cells.log_waiting.get(), "fullest": cells.log_waiting_fullest.get(),
                "high_water": cells.log_waiting_high.get(), "limit": NOT_DURABLE_MAX,
            }));
        }
        json!({ "queues": rows, "cut": lanes.count() > MAILBOX_PAIRS_MAX })
    }

    fn sessions(&self, user: Option<&str>, max: usize) -> Answer {
        let max = max.min(SESSIONS_MAX);
        let user = user.map(|user| self.local(user)).transpose()?;
        let asked = match &user {
            Some(local) => vec![self.server.shared.home_of(local)],
            None => (0..self.server.workers()).collect(),
        };
        let (reply, replies) = sync_channel(asked.len());
        for &worker in &asked {
            // One more than wanted tells whether there are more.
            self.give(worker, Command::Sessions { user: user.clone(), max: max + 1, reply: reply.clone() })?;
        }
        drop(reply);
        let answers = collect(&replies, asked.len())?;
        let (mut listed, mut bytes, mut found) = (Vec::new(), 0, 0);
        for session in answers.into_iter().flatten() {
            found += 1;
            bytes += session.jid.len() + 256;
            if listed.len() < max && bytes <= SESSIONS_BYTES_MAX {
                listed.push(session_json(session));
            }
        }
        Ok(json!({ "cut": listed.len() < found, "sessions": listed }))
    }

    fn kick(&self, jid: &str) -> Answer {
        let (local, resource) = self.local_and_resource(jid)?;
        let kicked = self.end_sessions(local, resource, StreamCondition::PolicyViolation)?;
        if kicked == 0 {
            return Err(Problem::new(ControlRefusal::NotFound, format!("{jid} has no session here")));
        }
        Ok(json!({ "kicked": kicked }))
    }

    /// Ends the sessions of an account; returns how many there were.
    pub(super) fn end_sessions(
        &self,
        user: String,
        resource: Option<String>,
        condition: StreamCondition,
    ) -> Result<usize, Problem> {
        let (reply, replies) = sync_channel(1);
        let home = self.server.shared.home_of(&user);
        self.give(home, Command::Kick { user, resource, condition, reply })?;
        Ok(collect(&replies, 1)?.into_iter().sum())
    }

    /// Tells the home worker of an account that it is deleted; the number of ended sessions.
    pub(super) fn account_removed(&self, user: String, gone: Removed) -> Result<usize, Problem> {
        let (reply, replies) = sync_channel(1);
        let home = self.server.shared.home_of(&user);
        self.give(home, Command::Removed { user, gone, reply })?;
        Ok(collect(&replies, 1)?.into_iter().sum())
    }

    /// What is said to somebody who asks for an end, which begins behind the answer: a server without clients ends at once.
    fn about_to_end(&self) -> Value {
        let config = self.server.config();
        json!({ "draining": true, "pid": std::process::id(), "drain_seconds": config.limits.drain_seconds })
    }

    pub(super) fn give(&self, worker: usize, command: Command) -> Result<(), Problem> {
        if self.server.commands[worker].give(command) {
            return Ok(());
        }
        Err(Problem::new(
            ControlRefusal::Busy,
            format!("worker {worker} has too many commands waiting; try again later"),
        ))
    }

    /// The localpart of an address of this domain, with the resource it may have.
    fn local_and_resource(&self, jid: &str) -> Result<(String, Option<String>), Problem> {
        let domain = &self.server.shared.domain;
        let parsed = JidRef::parse(jid).map_err(|error| {
            Problem::new(ControlRefusal::BadRequest, format!("`{jid}` is not an address: {error}"))
        })?;
        if !address::is_here(&parsed, domain) {
            let text = format!("{jid} belongs to another domain; this server serves {domain}");
            return Err(Problem::new(ControlRefusal::ForeignDomain, text));
        }
        let Some(local) = parsed.local() else {
            let text = format!("`{jid}` names no account; write NAME@{domain}");
            return Err(Problem::new(ControlRefusal::BadRequest, text));
        };
        Ok((local.to_owned(), parsed.resource().map(str::to_owned)))
    }

    /// The localpart of a bare address of this domain.
    pub(super) fn local(&self, jid: &str) -> Result<String, Problem> {
        match self.local_and_resource(jid)? {
            (local, None) => Ok(local),
            (_, Some(_)) => {
                let text = format!("`{jid}` has a resource; an account is named without it");
                Err(Problem::new(ControlRefusal::BadRequest, text))
            }
        }
    }
}

/// The directory cannot be read.
pub(super) fn unreadable(error: impl std::fmt::Display) -> Problem {
    Problem::new(ControlRefusal::Failed, format!("the directory cannot be read: {error}"))
}

/// Waits for `count` answers of workers.
fn collect<T>(replies: &Receiver<T>, count: usize) -> Result<Vec<T>, Problem> {
    let deadline = Instant::now() + WAIT_MAX;
    (0..count)
        .map(|_| {
            let left = deadline.saturating_duration_since(Instant::now());
            replies.recv_timeout(left).map_err(|_| {
                let text = "a worker does not answer; the server may be stopping or overloaded";
                Problem::new(ControlRefusal::Timeout, text)
            })
        })
        .collect()
}

fn session_json(session: SessionFacts) -> Value {
    json!({
        "jid": session.jid,
        "address": session.address,
        "worker": session.worker,
        "transport": session.transport,
        "tls": session.tls,
        "connected_seconds": session.connected_seconds,
        "idle_seconds": session.idle_seconds,
        "priority": session.priority,
        "available": session.available,
        "inactive": session.inactive,
        "carbons": session.carbons,
    })
}
