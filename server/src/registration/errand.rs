//! What other threads have the desk do: workers for streams, the control socket for the operator.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use tokio::sync::mpsc::Receiver;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use zeroize::Zeroizing;

use crate::runtime::driver::ConnId;
use crate::runtime::jobs::{Completions, Done};

use super::desk::{Desk, Revoked};
use super::gateway::Message;
use super::in_band::{self, Fields};
use super::number::Number;
use super::pin::{Entropy, SystemEntropy};
use super::refusal::Refusal;

/// Errands that wait at most; further ones are refused.
pub const ERRANDS_MAX: usize = 64;

/// Errands under way at the same time at most.
const UNDER_WAY_MAX: usize = 256;

/// Something to be done by the desk.
pub enum Errand {
    /// A form of a client.
    InBand(InBand),
    /// Make void what is under way for a number, and its key.
    Revoke(Number, SyncSender<Result<Revoked, Refusal>>),
    /// Send a message that has no PIN in it.
    TestSms(Number, SyncSender<Result<(), Refusal>>),
}

/// A form of a client.
pub struct InBand {
    /// The worker of its connection.
    pub worker: usize,
    /// The connection.
    pub conn: ConnId,
    /// Where the client connects from.
    pub peer: IpAddr,
    /// The iq's id.
    pub id: String,
    /// What it says.
    pub fields: Fields,
}

/// Does errands until the task is dropped.
pub async fn serve(desk: Arc<Desk>, mut errands: Receiver<Errand>, completions: Vec<Arc<Completions>>) {
    let room = Arc::new(Semaphore::new(UNDER_WAY_MAX));
    let completions = Arc::new(completions);
    while let Some(errand) = errands.recv().await {
        let Ok(place) = room.clone().acquire_owned().await else { return };
        tokio::spawn(run(desk.clone(), errand, completions.clone(), place));
    }
}

async fn run(
    desk: Arc<Desk>,
    errand: Errand,
    completions: Arc<Vec<Arc<Completions>>>,
    _place: OwnedSemaphorePermit,
) {
    match errand {
        Errand::InBand(form) => {
            let answer = answer(&desk, &form).await;
            let conn = form.conn;
            let then =
                move |_: &mut crate::user::actors::Actors,
                      _: &crate::env::Env,
                      fx: &mut crate::effects::Effects| fx.jobs.answer(conn, answer);
            completions[form.worker].deliver(Done::Derived(Box::new(then)));
        }
        Errand::Revoke(number, reply) => {
            let _ = reply.try_send(desk.revoke(&number).await);
        }
        Errand::TestSms(number, reply) => {
            let _ = reply.try_send(test_sms(&desk, number).await);
        }
    }
}

async fn answer(desk: &Desk, form: &InBand) -> Vec<u8> {
    let domain = &desk.shared().domain;
    let Fields { phone, device, pin } = &form.fields;
    let result = match pin {
        None => desk.request(phone, device, form.peer).await.map(|_| in_band::sent(domain, &form.id)),
        Some(pin) => {
            let registered = desk.verify(phone, pin, device, form.peer).await;
            registered.map(|done| in_band::registered(domain, &form.id, &done.jid, &done.key))
        }
    };
    result.unwrap_or_else(|refusal| in_band::refused(domain, &form.id, &refusal))
}

async fn test_sms(desk: &Desk, number: Number) -> Result<(), Refusal> {
    let _pass = desk.enter()?;
    let config = desk.config();
    let mut id = [0; 8];
    SystemEntropy.fill(&mut id).map_err(|_| Refusal::Failed)?;
    let text = Zeroizing::new(format!("This is a test message of {}.", config.domain));
    desk.send(Message { id: u64::from_le_bytes(id), number, text }, &config).await
}
