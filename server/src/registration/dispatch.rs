//! Takes [requests](crate::phone::request) of other threads, each in a task of its own, and sends the answers back.

use std::sync::Arc;

use tokio::sync::mpsc::Receiver;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use zeroize::Zeroizing;

use crate::env::Env;
use crate::user::actors::{Actors, Effects};
use crate::user::jobs::{Completions, Done};

use super::gateway::Message;
use super::in_band;
use super::service::RegistrationService;
use crate::phone::number::Number;
use crate::phone::pin::{Entropy, SystemEntropy};
use crate::phone::refusal::PhoneRefusal;
use crate::phone::request::Request;

/// Requests under way at the same time at most.
const UNDER_WAY_MAX: usize = 256;

/// Takes requests until the task is dropped.
pub async fn serve(
    service: Arc<RegistrationService>,
    mut requests: Receiver<Request>,
    completions: Vec<Arc<Completions>>,
) {
    let room = Arc::new(Semaphore::new(UNDER_WAY_MAX));
    let completions = Arc::new(completions);
    while let Some(request) = requests.recv().await {
        let Ok(place) = room.clone().acquire_owned().await else { return };
        tokio::spawn(run(service.clone(), request, completions.clone(), place));
    }
}

async fn run(
    service: Arc<RegistrationService>,
    request: Request,
    completions: Arc<Vec<Arc<Completions>>>,
    _place: OwnedSemaphorePermit,
) {
    match request {
        Request::InBand(form) => {
            let answer = in_band::answer(&service, &form).await;
            let conn = form.conn;
            let then = move |_: &mut Actors, _: &Env, fx: &mut Effects| fx.jobs.answer(conn, answer);
            completions[form.worker].deliver(Done::Derived(Box::new(then)));
        }
        Request::Revoke(number, reply) => {
            let _ = reply.try_send(service.revoke(&number).await);
        }
        Request::TestSms(number, reply) => {
            let _ = reply.try_send(test_sms(&service, number).await);
        }
    }
}

async fn test_sms(service: &RegistrationService, number: Number) -> Result<(), PhoneRefusal> {
    let _under_way = service.enter()?;
    let config = service.config();
    let mut id = [0; 8];
    SystemEntropy.fill(&mut id).map_err(|_| PhoneRefusal::Failed)?;
    let text = Zeroizing::new(format!("This is a test message of {}.", config.domain));
    service.send(Message { id: u64::from_le_bytes(id), number, text }, &config).await
}
