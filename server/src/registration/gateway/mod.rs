//! Sending text messages: a bounded queue, a few threads, and a gateway that does the sending.
//!
//! ```text
//! service ──try_send──▶ queue ──▶ sms-0 … sms-n ── gateway.send, again with growing pauses until the deadline
//!   ▲                              │
//!   └──────── what came of it ◀────┴──▶ DATA/sms-dead-letters.jsonl, when nothing came of it
//! ```
//! Nothing else of the server waits for any of this. Whoever asked for a message hears in the end whether it went out,
//! at the latest one attempt after its deadline.
//!
//! | module | what |
//! | --- | --- |
//! | [`command`] | a program |
//! | [`webhook`] | an HTTPS request |
//! | [`dead_letters`] | what could not be sent |

pub mod command;
pub mod dead_letters;
pub mod webhook;

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded};
use ring::rand::{SecureRandom, SystemRandom};
use tokio::sync::oneshot;
use zeroize::Zeroizing;

use crate::runtime::gauge::{Gauge, HighWater};

use super::number::Number;
use super::settings::{GatewayChoice, RegistrationConfig};
use dead_letters::DeadLetters;

/// The pause after the first failed attempt; each further one is twice as long, give or take a half.
const PAUSE_FIRST: Duration = Duration::from_millis(500);

/// A text message.
pub struct Message {
    /// Names it: the same in each attempt, so that a provider can drop the second of two.
    pub id: u64,
    /// To whom.
    pub number: Number,
    /// What it says. Holds the PIN: wiped when dropped, never logged.
    pub text: Zeroizing<String>,
}

/// Why a message was not sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// For good: the number or the account with the provider is refused. The text is for the operator.
    Refused(String),
    /// This time; another attempt may succeed.
    Unreachable(String),
}

/// Does the sending.
pub trait Gateway: Send + Sync {
    /// Its name in logs.
    fn name(&self) -> &'static str;

    /// Makes one attempt, which takes `within` at most.
    ///
    /// # Errors
    /// Why the message was not sent.
    fn send(&self, message: &Message, within: Duration) -> Result<(), Failure>;
}

/// What came of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The gateway has taken it.
    Sent,
    /// The gateway refuses it for good.
    Refused,
    /// No attempt succeeded in time.
    Unreachable,
    /// The server stops; it was not tried.
    Stopping,
}

/// What came of a message, and how long the attempt took that decided it.
pub type Delivery = (Outcome, Duration);

struct Job {
    message: Message,
    deadline: Instant,
    done: oneshot::Sender<Delivery>,
}

/// The queue with its threads.
pub struct Outbound {
    queue: Mutex<Option<Sender<Job>>>,
    /// Dropped to end pauses and to have what waits answered at once.
    stop: Mutex<Option<Sender<()>>>,
    waiting: Mutex<Receiver<Job>>,
    limit: usize,
    high_water: HighWater,
    threads: Mutex<Vec<JoinHandle<()>>>,
    thread_count: u32,
    gateway: Arc<dyn Gateway>,
    dead: Arc<DeadLetters>,
}

/// The queue of messages is full, or the server stops.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct QueueFull;

/// Makes the gateway that the configuration asks for.
///
/// # Errors
/// A file cannot be used; the text says which and why.
pub fn from_config(config: &RegistrationConfig, domain: &str) -> Result<Arc<dyn Gateway>, String> {
    Ok(match config.gateway {
        GatewayChoice::Command => Arc::new(command::Command::new(config.command.clone())),
        GatewayChoice::Webhook => Arc::new(webhook::Webhook::from_config(config, domain)?),
        // Checked before: a configuration without a gateway has no registration.
        GatewayChoice::Log | GatewayChoice::None => {
            tracing::warn!(
                "registration.gateway is \"log\": PINs are written into this log instead of being sent. For \
                 development only"
            );
            Arc::new(Log)
        }
    })
}

/// The gateway of development: the log.
struct Log;

impl Gateway for Log {
    fn name(&self) -> &'static str {
        "log"
    }

    fn send(&self, message: &Message, _: Duration) -> Result<(), Failure> {
        tracing::warn!("instead of a text message to {}: {}", message.number, &*message.text);
        Ok(())
    }
}

impl Outbound {
    /// Starts the threads.
    ///
    /// # Errors
    /// A thread cannot be started.
    pub fn start(
        gateway: &Arc<dyn Gateway>,
        config: &RegistrationConfig,
        data: &Path,
    ) -> std::io::Result<Outbound> {
        let outbound = Outbound {
            queue: Mutex::new(None),
            stop: Mutex::new(None),
            waiting: Mutex::new(bounded(0).1),
            limit: config.gateway_queue as usize,
            high_water: HighWater::default(),
            threads: Mutex::default(),
            thread_count: config.gateway_threads,
            gateway: gateway.clone(),
            dead: Arc::new(DeadLetters::in_data(data)),
        };
        outbound.restart()?;
        Ok(outbound)
    }

    /// Starts the threads again after [`Outbound::stop`]. Any that is still at an attempt ends after it.
    ///
    /// # Errors
    /// A thread cannot be started.
    pub fn restart(&self) -> std::io::Result<()> {
        let (queue, jobs) = bounded(self.limit);
        let (stop, stopped) = bounded::<()>(0);
        let threads = (0..self.thread_count)
            .map(|n| {
                let (gateway, jobs, stopped, dead) =
                    (self.gateway.clone(), jobs.clone(), stopped.clone(), self.dead.clone());
                std::thread::Builder::new()
                    .name(format!("sms-{n}"))
                    .spawn(move || work(&*gateway, &jobs, &stopped, &dead))
            })
            .collect::<std::io::Result<Vec<_>>>()?;
        *self.threads.lock().expect("nothing panics while it holds this lock") = threads;
        *self.waiting.lock().expect("nothing panics while it holds this lock") = jobs;
        *self.stop.lock().expect("nothing panics while it holds this lock") = Some(stop);
        *self.queue.lock().expect("nothing panics while it holds this lock") = Some(queue);
        Ok(())
    }

    /// Queues a message, to be sent within this time.
    ///
    /// # Errors
    /// [`QueueFull`]; the message is dropped.
    pub fn try_send(
        &self,
        message: Message,
        within: Duration,
    ) -> Result<oneshot::Receiver<Delivery>, QueueFull> {
        let (done, outcome) = oneshot::channel();
        let job = Job { message, deadline: Instant::now() + within, done };
        let queue = self.queue.lock().expect("nothing panics while it holds this lock");
        let queue = queue.as_ref().ok_or(QueueFull)?;
        queue.try_send(job).map_err(|_| QueueFull)?;
        self.high_water.raise(queue.len());
        Ok(outcome)
    }

    /// Messages that wait, most that ever waited, limit.
    pub fn gauge(&self) -> Gauge {
        let waiting = self.waiting.lock().expect("nothing panics while it holds this lock").len();
        self.high_water.gauge(waiting, self.limit)
    }

    /// Takes no more messages, answers those that wait with [`Outcome::Stopping`], and waits until the attempts under
    /// way are over, for `wait` at most. `false`: one is not; it is left to itself.
    pub fn stop(&self, wait: Duration) -> bool {
        drop(self.stop.lock().expect("nothing panics while it holds this lock").take());
        drop(self.queue.lock().expect("nothing panics while it holds this lock").take());
        let deadline = Instant::now() + wait;
        let mut threads = self.threads.lock().expect("nothing panics while it holds this lock");
        while threads.iter().any(|thread| !thread.is_finished()) {
            if Instant::now() >= deadline {
                return false;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        for thread in threads.drain(..) {
            // A panic has been reported by the panic hook.
            let _ = thread.join();
        }
        true
    }
}

fn work(gateway: &dyn Gateway, jobs: &Receiver<Job>, stopped: &Receiver<()>, dead: &DeadLetters) {
    while let Ok(Job { message, deadline, done }) = jobs.recv() {
        let delivery = deliver(gateway, &message, deadline, stopped, dead);
        // Whoever asked may have gone.
        let _ = done.send(delivery);
    }
}

/// Tries until it is sent, refused, or too late.
fn deliver(
    gateway: &dyn Gateway,
    message: &Message,
    deadline: Instant,
    stopped: &Receiver<()>,
    dead: &DeadLetters,
) -> Delivery {
    let mut pause = PAUSE_FIRST;
    let mut last = "it waited too long for the messages before it".to_owned();
    let mut took = Duration::ZERO;
    loop {
        // Nobody ever sends here: it is empty until the server stops.
        if stopped.try_recv() == Err(crossbeam::channel::TryRecvError::Disconnected) {
            return (Outcome::Stopping, took);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return (dead.keep(gateway.name(), message, Outcome::Unreachable, &last), took);
        }
        let begun = Instant::now();
        let result = gateway.send(message, left);
        took = begun.elapsed();
        match result {
            Ok(()) => return (Outcome::Sent, took),
            Err(Failure::Refused(text)) => {
                return (dead.keep(gateway.name(), message, Outcome::Refused, &text), took);
            }
            Err(Failure::Unreachable(text)) => last = text,
        }
        let wait = jittered(pause).min(deadline.saturating_duration_since(Instant::now()));
        pause = pause.saturating_mul(2);
        if stopped.recv_timeout(wait) == Err(RecvTimeoutError::Disconnected) {
            return (Outcome::Stopping, took);
        }
    }
}

/// Between a half and one and a half of it, so that what failed together is not tried again together.
fn jittered(pause: Duration) -> Duration {
    let mut byte = [128];
    // Without random bytes there is no jitter, which is no reason not to go on.
    let _ = SystemRandom::new().fill(&mut byte);
    pause.mul_f64(0.5 + f64::from(byte[0]) / 256.0)
}
