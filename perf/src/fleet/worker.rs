//! A worker process: reads orders, drives its engine, tells news.

use std::io::{self, BufRead, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{Receiver, TryRecvError, channel};

use mio::Events;
use signal_hook::consts::SIGINT;

use crate::engine::Engine;
use crate::engine::counters::{Counters, Recorder};
use crate::fleet::{Done, Job, News, Order, Run, Start, Timed, Until};

/// Nanoseconds between two progress reports.
const PROGRESS_NS: u64 = 200_000_000;

/// Runs until the order to finish, or until the coordinator is gone.
pub(crate) fn main() -> ExitCode {
    // The coordinator hears of an interrupt too and tells us to finish.
    let _ = signal_hook::flag::register(SIGINT, Arc::new(AtomicBool::new(false)));
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tell(&News::Fatal(format!("a worker failed: {error}")));
            ExitCode::FAILURE
        }
    }
}

fn run() -> io::Result<()> {
    let mut first = String::new();
    io::stdin().lock().read_line(&mut first)?;
    let job: Job = serde_json::from_str(&first)?;
    raise_descriptor_limit();
    let engine = Engine::new(job.target, job.share)?;
    let waker = engine.waker()?;
    let (to_engine, orders) = channel();
    std::thread::Builder::new().name("orders".into()).spawn(move || {
        for line in io::stdin().lock().lines() {
            let Ok(order) = line.and_then(|line| Ok(serde_json::from_str::<Order>(&line)?)) else { break };
            if to_engine.send(order).is_err() {
                break;
            }
            let _ = waker.wake();
        }
        drop(to_engine);
        let _ = waker.wake();
    })?;
    Worker { engine, orders, task: Task::Nothing }.serve()
}

/// As many descriptors as the hard limit allows.
pub(crate) fn raise_descriptor_limit() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointer is to a live rlimit.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } == 0 {
        limit.rlim_cur = limit.rlim_max;
        // SAFETY: as above. A failure shows later, as too few descriptors.
        unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
    }
}

fn tell(news: &News) {
    if let Ok(mut line) = serde_json::to_vec(news) {
        line.push(b'\n');
        let mut out = io::stdout().lock();
        // Without a coordinator there is nobody to tell; the closed stdin ends us.
        let _ = out.write_all(&line).and_then(|()| out.flush());
    }
}

struct Worker {
    engine: Engine,
    orders: Receiver<Order>,
    task: Task,
}

/// What is being done.
enum Task {
    Nothing,
    Reach,
    Run(Box<Running>),
}

struct Running {
    run: Run,
    stage: Stage,
    begun: Counters,
    base: Counters,
    measure_at: u64,
    measured_from: u64,
    measured: Counters,
    measured_ns: u64,
}

#[derive(Clone, Copy)]
enum Stage {
    Warmup,
    Measure { until: u64 },
    Drain { until: u64 },
}

impl Worker {
    fn serve(&mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(4096);
        let mut next_progress = 0;
        loop {
            self.engine.turn(&mut events)?;
            match self.orders.try_recv() {
                Ok(Order::Finish) | Err(TryRecvError::Disconnected) => {
                    self.engine.end_pings();
                    // To take leave of very many sessions may take longer than the coordinator waits for the last words.
                    tell(&News::Progress(Box::new(self.engine.counters.clone())));
                    self.engine.leave();
                    tell(&News::Bye(Box::new(self.engine.counters.clone())));
                    return Ok(());
                }
                Ok(order) => self.obey(order),
                Err(TryRecvError::Empty) => {}
            }
            self.go_on();
            let now = self.engine.now_ns();
            if now >= next_progress {
                next_progress = now + PROGRESS_NS;
                tell(&News::Progress(Box::new(self.engine.counters.clone())));
            }
            if let Some(reason) = self.engine.fatal.take() {
                if matches!(self.task, Task::Run(_)) {
                    self.engine.settle();
                }
                tell(&News::Progress(Box::new(self.engine.counters.clone())));
                tell(&News::Fatal(reason));
                // The coordinator tells everybody to finish; until then the figures stand.
                while !matches!(self.orders.recv(), Ok(Order::Finish) | Err(_)) {}
                tell(&News::Bye(Box::new(self.engine.counters.clone())));
                return Ok(());
            }
        }
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Reach { sessions, rate } => {
                self.engine.want(sessions, rate);
                self.task = Task::Reach;
            }
            Order::StopLogins => {
                self.engine.stop_logins();
                self.task = Task::Nothing;
                tell(&News::Obeyed);
            }
            Order::Subscribe { group } => {
                self.engine.subscribe(group);
                tell(&News::Obeyed);
            }
            Order::SendReceiversAway => {
                self.engine.send_receivers_away();
                tell(&News::Obeyed);
            }
            Order::Run(run) => {
                let measure_at = self.engine.now_ns() + run.warmup_ms * 1_000_000;
                let begun = self.engine.counters.clone();
                if let Some(load) = run.load.clone() {
                    self.engine.begin(load, run.body_bytes, measure_at, run.run);
                }
                self.task = Task::Run(Box::new(Running {
                    run,
                    stage: Stage::Warmup,
                    base: begun.clone(),
                    measured: Counters::default(),
                    begun,
                    measure_at,
                    measured_from: 0,
                    measured_ns: 0,
                }));
            }
            Order::Finish => {}
        }
    }

    fn go_on(&mut self) {
        match &mut self.task {
            Task::Nothing => {}
            Task::Reach => {
                if self.engine.all_ready() {
                    self.task = Task::Nothing;
                    tell(&News::Progress(Box::new(self.engine.counters.clone())));
                    tell(&News::Reached(Box::new(timed(&self.engine.take_recorder()))));
                }
            }
            Task::Run(running) => {
                if running.step(&mut self.engine) {
                    self.task = Task::Nothing;
                }
            }
        }
    }
}

impl Running {
    /// Does what is due; `true` when the run is over.
    fn step(&mut self, engine: &mut Engine) -> bool {
        let now = engine.now_ns();
        match self.stage {
            Stage::Warmup if now >= self.measure_at => {
                self.base = engine.counters.clone();
                engine.take_recorder();
                match self.run.at_start {
                    Start::Nothing => {}
                    Start::Cut { keep_every, rate } => engine.cut(keep_every, rate),
                    Start::CallReceivers => engine.call_receivers(),
                    Start::MakeRooms { members, mobile } => engine.make_rooms(members, mobile),
                    Start::EnterRooms => engine.enter_rooms(),
                }
                self.measured_from = now;
                self.stage = Stage::Measure { until: now + self.run.limit_ms * 1_000_000 };
                tell(&News::Measuring);
            }
            Stage::Measure { until } => {
                let over = match self.run.until {
                    Until::Limit => false,
                    Until::AllReady => engine.all_ready(),
                    Until::AllStored => engine.all_stored(),
                    Until::AllCollected => engine.all_ready() && engine.all_arrived(),
                    Until::RoomsMade => engine.are_in_rooms(false),
                    Until::AllInRooms => engine.are_in_rooms(true),
                };
                if over || now >= until {
                    self.measured = engine.counters.since(&self.base);
                    self.measured_ns = now - self.measured_from;
                    tell(&News::Measured);
                    engine.stop_sending();
                    engine.request_acknowledgements();
                    self.stage = Stage::Drain { until: now + self.run.drain_ms * 1_000_000 };
                }
            }
            Stage::Drain { until }
                if now >= until
                    || !self.run.settle
                    || (engine.all_arrived() && engine.all_acknowledged()) =>
            {
                if self.run.settle {
                    engine.settle();
                }
                tell(&News::Progress(Box::new(engine.counters.clone())));
                tell(&News::Done(Box::new(Done {
                    measured_ns: self.measured_ns,
                    measured: std::mem::take(&mut self.measured),
                    whole: engine.counters.since(&self.begun),
                    timed: timed(&engine.take_recorder()),
                })));
                return true;
            }
            Stage::Warmup | Stage::Drain { .. } => {}
        }
        false
    }
}

fn timed(recorder: &Recorder) -> Timed {
    Timed {
        login: recorder.login.to_pairs(),
        message: recorder.message.to_pairs(),
        ping: recorder.ping.to_pairs(),
        group: recorder.group.to_pairs(),
    }
}
