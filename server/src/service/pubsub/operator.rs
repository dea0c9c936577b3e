//! What an operator asks of the service's nodes (`whimbrelctl node`): done on the node's home, and told to subscribers as if an owner
//! had done it.

use std::sync::mpsc::SyncSender;

use whimbrel_storage::directory::WriteTransaction;
use whimbrel_storage::directory::pubsub::Affiliation;
use whimbrel_storage::jid::Jid;

use super::bounds::Bounds;
use super::members::{Changes, affiliated_as};
use super::node::{self, New, defaults_of_service, whose};
use crate::env::Env;
use crate::proto::address;
use crate::proto::errors::StanzaError;
use crate::proto::pubsub::config::ConfigChange;
use crate::proto::pubsub::error;
use crate::service::Committed;
use crate::service::commit::JobResult;
use crate::user::actors::{Actors, Effects};
use crate::user::jobs::Then;

/// What is asked.
pub enum Order {
    /// Make it.
    Create {
        /// What it is to be configured to.
        config: ConfigChange,
        /// Bare JIDs of its owners.
        owners: Vec<Jid>,
    },
    /// Delete it.
    Delete,
    /// Configure it.
    Configure(ConfigChange),
    /// Make somebody something to it.
    Affiliate {
        /// Bare JID.
        jid: Jid,
        /// What it becomes.
        affiliation: Affiliation,
    },
}

/// What has come of it. A reply that never comes means that the directory could not be written.
pub enum Outcome {
    /// It is done, and on the disk.
    Done,
    /// It may not be done.
    Refused(StanzaError),
}

/// Carries an order out on the node's home.
pub fn carry_out(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    name: &str,
    order: Order,
    reply: &SyncSender<Outcome>,
) {
    let task = Task {
        name: name.to_owned(),
        bounds: Bounds::of(env, ""),
        domain: env.shared.domain.clone(),
        now_ms: env.unix_ms(),
    };
    let on_refusal = reply.clone();
    let reply = reply.clone();
    let job = move |transaction: &mut WriteTransaction<'_>| {
        let outcome = task.run(transaction, order)?;
        let then: Then = Box::new(move |actors, env, fx| {
            let outcome = match outcome {
                Ok(Committed { after, .. }) => {
                    if let Some(after) = after {
                        after(actors, env, fx, None);
                    }
                    Outcome::Done
                }
                Err(error) => Outcome::Refused(error),
            };
            let _ = reply.try_send(outcome);
        });
        Ok(then)
    };
    if let Err(error) = actors.write(env, fx, job, |_, _, _, _| {}) {
        let _ = on_refusal.try_send(Outcome::Refused(error));
    }
}

/// What an order needs to know.
struct Task {
    name: String,
    bounds: Bounds,
    domain: Box<str>,
    now_ms: u64,
}

impl Task {
    fn run(self, transaction: &mut WriteTransaction<'_>, order: Order) -> JobResult {
        match order {
            Order::Create { config, owners } => self.create(transaction, &config, &owners),
            Order::Affiliate { jid, affiliation } => {
                let Task { name: node, bounds, domain, .. } = self;
                let changes = Changes { node, wanted: vec![(jid, affiliation)], domain, bounds };
                let made = changes.make(transaction, "", None, affiliated_as)?;
                Ok(made.map(|()| Committed::default()))
            }
            Order::Delete => match node::find(transaction, "", &self.name)? {
                Some(found) => node::end(transaction, &found, ""),
                None => Ok(Err(error::not_found())),
            },
            Order::Configure(change) => match node::find(transaction, "", &self.name)? {
                Some(found) => node::reconfigure(transaction, found, &change, (self.bounds, "")),
                None => Ok(Err(error::not_found())),
            },
        }
    }

    fn create(
        self,
        transaction: &mut WriteTransaction<'_>,
        change: &ConfigChange,
        owners: &[Jid],
    ) -> JobResult {
        let config = match change.apply(defaults_of_service(), self.bounds.items, whose("")) {
            Ok(config) => config,
            Err(error) => return Ok(Err(error)),
        };
        let named = |owner: &'_ Jid| {
            let local = address::contact_here(owner.as_str(), &self.domain)?;
            Some((owner.as_str().to_owned(), local.to_owned()))
        };
        let Some(owners) = owners.iter().map(named).collect::<Option<Vec<_>>>() else {
            return Ok(Err(error::not_found()));
        };
        let owners: Vec<(&str, &str)> =
            owners.iter().map(|(bare, local)| (bare.as_str(), local.as_str())).collect();
        let (bounds, now_ms) = (self.bounds, self.now_ms);
        let new = New { local: "", name: &self.name, config, bounds, now_ms };
        Ok(node::make(transaction, new, &owners)?.map(|_| Committed::default()))
    }
}
