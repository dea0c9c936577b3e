//! Starts worker processes, gives them orders, and puts together what they tell.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGINT, SIGTERM};

use crate::engine::Share;
use crate::engine::counters::{Counters, Recorder};
use crate::engine::target::Target;
use crate::fleet::progress::Progress;
use crate::fleet::{Done, Job, News, Order, Run, Timed};

/// How long a worker may take for its last words.
const BYE_MAX: Duration = Duration::from_secs(10);

/// How long a worker that has been killed is waited for: the kernel may take minutes to close a million sockets.
const DEATH_MAX: Duration = Duration::from_secs(5);

/// Descriptors of a worker that are no sessions.
pub(crate) const DESCRIPTORS_RESERVED: u64 = 64;

/// How a run is spread over workers.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    /// Worker processes.
    pub(crate) workers: u32,
    /// Sessions at most, of all.
    pub(crate) sessions_max: u64,
    /// Connects a second, of all.
    pub(crate) rate: f64,
    /// Logins under way at most, of all.
    pub(crate) in_flight_max: u32,
    /// Milliseconds between two pings of one session; 0: none.
    pub(crate) ping_interval_ms: u64,
}

impl Layout {
    /// Sessions that the first, the second ... worker has when there are `sessions` of all. Each worker has an even
    /// number, since pairs live in one worker.
    pub(crate) fn split(&self, sessions: u64) -> Vec<u32> {
        let pairs = sessions.div_ceil(2);
        let workers = u64::from(self.workers);
        (0..workers)
            .map(|worker| {
                let of_all = pairs / workers + u64::from(worker < pairs % workers);
                u32::try_from(of_all * 2).unwrap_or(u32::MAX)
            })
            .collect()
    }

    /// What goes to each of so many workers, as a check before anything is started.
    ///
    /// # Errors
    /// A worker would have more sessions than descriptors.
    pub(crate) fn check(&self, hard_limit: u64) -> Result<(), String> {
        let most = u64::from(self.split(self.sessions_max).into_iter().max().unwrap_or(0));
        if most + DESCRIPTORS_RESERVED > hard_limit {
            return Err(format!(
                "{most} sessions in one worker need more than the {hard_limit} descriptors that a process may have: \
                 use --workers {} or more",
                self.sessions_max.div_ceil(hard_limit.saturating_sub(DESCRIPTORS_RESERVED + 2).max(1))
            ));
        }
        Ok(())
    }
}

/// Why a run has ended early.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// Interrupted from the keyboard.
    Interrupted,
    /// A worker could not go on.
    Fatal(String),
    /// It took longer than allowed.
    TimedOut(String),
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Ended::Interrupted => f.write_str("interrupted"),
            Ended::Fatal(reason) | Ended::TimedOut(reason) => f.write_str(reason),
        }
    }
}

/// Something that is called between news: it samples and draws.
pub(crate) type Watch<'a> = dyn FnMut(&Moment<'_>) + 'a;

/// What a [`Watch`] is told.
pub(crate) enum Moment<'a> {
    /// Some time has passed.
    Tick(&'a Counters),
    /// The time that counts begins.
    Measuring,
    /// It ends.
    Measured,
}

struct WorkerProcess {
    child: Child,
    orders: Option<ChildStdin>,
    counters: Counters,
    ended: bool,
}

/// Set by SIGINT or SIGTERM, once for the whole process: a command of several runs ends as a whole.
///
/// # Errors
/// The signals cannot be taken.
pub(crate) fn interruption() -> Result<Arc<AtomicBool>, String> {
    static FLAG: OnceLock<Arc<AtomicBool>> = OnceLock::new();
    if let Some(flag) = FLAG.get() {
        return Ok(flag.clone());
    }
    let flag = FLAG.get_or_init(Arc::default).clone();
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, flag.clone())
            .map_err(|error| format!("cannot take signals: {error}"))?;
    }
    Ok(flag)
}

/// The workers of a run.
pub(crate) struct Fleet {
    workers: Vec<WorkerProcess>,
    news: Receiver<(usize, Option<News>)>,
    layout: Layout,
    interrupted: Arc<AtomicBool>,
    progress: Progress,
}

impl Fleet {
    /// Starts the workers.
    ///
    /// # Errors
    /// A process cannot be started.
    pub(crate) fn start(target: &Target, layout: Layout, quiet: bool) -> Result<Fleet, String> {
        let interrupted = interruption()?;
        let (to_us, news) = channel();
        let mut fleet =
            Fleet { workers: Vec::new(), news, layout, interrupted, progress: Progress::new(quiet) };
        let mut first = 0;
        let workers = f64::from(fleet.layout.workers);
        for (index, sessions_max) in fleet.layout.split(fleet.layout.sessions_max).into_iter().enumerate() {
            let share = Share {
                first,
                sessions_max,
                rate: fleet.layout.rate / workers,
                in_flight_max: (fleet.layout.in_flight_max / fleet.layout.workers).max(1),
                ping_interval_ms: fleet.layout.ping_interval_ms,
            };
            first += u64::from(sessions_max);
            let job = Job { target: target.clone(), share };
            fleet.workers.push(start_worker(index, &job, to_us.clone())?);
        }
        Ok(fleet)
    }

    /// The layout it was started with.
    pub(crate) fn layout(&self) -> &Layout {
        &self.layout
    }

    /// What all workers have counted so far.
    pub(crate) fn counters(&self) -> Counters {
        let mut all = Counters::default();
        for worker in &self.workers {
            all.add(&worker.counters);
        }
        all
    }

    /// Names what is going on, for the progress line.
    pub(crate) fn now_doing(&mut self, what: &str) {
        self.progress.now_doing(what);
    }

    /// Brings so many sessions up, within `limit`.
    ///
    /// # Errors
    /// The run has to end; see [`Ended`].
    pub(crate) fn reach(
        &mut self,
        sessions: u64,
        rate: Option<f64>,
        limit: Duration,
        watch: &mut Watch<'_>,
    ) -> Result<Recorder, Ended> {
        let split = self.layout.split(sessions);
        let rate = rate.map(|rate| rate / f64::from(self.layout.workers));
        for (index, sessions) in split.into_iter().enumerate() {
            self.order(index, &Order::Reach { sessions, rate });
        }
        let mut recorder = Recorder::default();
        self.wait(limit, watch, |news| match news {
            News::Reached(timed) => {
                add_timed(&mut recorder, &timed);
                true
            }
            _ => false,
        })?;
        Ok(recorder)
    }

    /// Runs a load in all workers; `make` gives the part of each.
    ///
    /// # Errors
    /// The run has to end; see [`Ended`].
    pub(crate) fn run(
        &mut self,
        make: impl Fn() -> Run,
        watch: &mut Watch<'_>,
    ) -> Result<(Done, Recorder), Ended> {
        let run = make();
        let limit =
            Duration::from_millis(run.warmup_ms + run.limit_ms + run.drain_ms) + Duration::from_secs(30);
        for index in 0..self.workers.len() {
            self.order(index, &Order::Run(run.clone()));
        }
        let (mut all, mut recorder) = (Done::default(), Recorder::default());
        self.wait(limit, watch, |news| match news {
            News::Done(done) => {
                all.measured_ns = all.measured_ns.max(done.measured_ns);
                all.measured.add(&done.measured);
                all.whole.add(&done.whole);
                add_timed(&mut recorder, &done.timed);
                true
            }
            _ => false,
        })?;
        Ok((all, recorder))
    }

    /// Gives an order that takes no time.
    ///
    /// # Errors
    /// The run has to end; see [`Ended`].
    pub(crate) fn tell_all(&mut self, order: &Order) -> Result<(), Ended> {
        for index in 0..self.workers.len() {
            self.order(index, order);
        }
        self.wait(Duration::from_secs(60), &mut |_| (), |news| matches!(news, News::Obeyed))
    }

    /// Lets time pass.
    ///
    /// # Errors
    /// The run has to end; see [`Ended`].
    pub(crate) fn pause(&mut self, time: Duration, watch: &mut Watch<'_>) -> Result<(), Ended> {
        match self.wait(time, watch, |_| false) {
            Err(Ended::TimedOut(_)) => Ok(()),
            other => other,
        }
    }

    fn order(&mut self, index: usize, order: &Order) {
        let worker = &mut self.workers[index];
        if let (Some(orders), Ok(mut line)) = (&mut worker.orders, serde_json::to_vec(order)) {
            line.push(b'\n');
            // A worker that is gone is noticed by its closed stdout.
            let _ = orders.write_all(&line).and_then(|()| orders.flush());
        }
    }

    /// Waits until `done` has said yes once for each worker.
    fn wait(
        &mut self,
        limit: Duration,
        watch: &mut Watch<'_>,
        mut done: impl FnMut(News) -> bool,
    ) -> Result<(), Ended> {
        let end = Instant::now() + limit;
        let mut left = self.workers.len();
        let (mut measuring, mut measured) = (0, 0);
        while left > 0 {
            if self.interrupted.load(Ordering::Relaxed) {
                return Err(Ended::Interrupted);
            }
            let now = Instant::now();
            if now >= end {
                let all = self.counters();
                return Err(Ended::TimedOut(format!(
                    "not finished after {} s: {} sessions up, {} logins under way; failures: {:?}",
                    limit.as_secs(),
                    all.ready,
                    all.connecting,
                    all.login_failures
                )));
            }
            match self.news.recv_timeout((end - now).min(Duration::from_millis(100))) {
                Ok((index, Some(news))) => match news {
                    News::Progress(counters) => self.workers[index].counters = *counters,
                    News::Fatal(reason) => return Err(Ended::Fatal(reason)),
                    News::Measuring => {
                        measuring += 1;
                        if measuring == 1 {
                            watch(&Moment::Measuring);
                        }
                    }
                    News::Measured => {
                        measured += 1;
                        if measured == self.workers.len() {
                            watch(&Moment::Measured);
                        }
                    }
                    news => left -= usize::from(done(news)),
                },
                Ok((index, None)) => {
                    self.workers[index].ended = true;
                    return Err(Ended::Fatal("a worker process has ended unexpectedly".into()));
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
            }
            let all = self.counters();
            watch(&Moment::Tick(&all));
            self.progress.tick(&all);
        }
        Ok(())
    }

    /// Ends all workers and returns what they have counted.
    pub(crate) fn finish(mut self) -> Counters {
        self.progress.clear();
        for index in 0..self.workers.len() {
            self.order(index, &Order::Finish);
        }
        let end = Instant::now() + BYE_MAX;
        while self.workers.iter().any(|worker| !worker.ended) {
            let left = end.saturating_duration_since(Instant::now());
            match self.news.recv_timeout(left) {
                Ok((index, Some(News::Progress(counters) | News::Bye(counters)))) => {
                    self.workers[index].counters = *counters;
                }
                Ok((index, None)) => self.workers[index].ended = true,
                Ok(_) => {}
                Err(_) => break,
            }
        }
        self.counters()
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for worker in &mut self.workers {
            worker.orders = None;
            if !worker.ended {
                let _ = worker.child.kill();
            }
        }
        let end = Instant::now() + DEATH_MAX;
        for worker in &mut self.workers {
            while matches!(worker.child.try_wait(), Ok(None)) && Instant::now() < end {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
}

fn start_worker(
    index: usize,
    job: &Job,
    to_us: Sender<(usize, Option<News>)>,
) -> Result<WorkerProcess, String> {
    let failed = |error: std::io::Error| format!("cannot start a worker process: {error}");
    let program = std::env::current_exe().map_err(failed)?;
    let mut child = Command::new(program)
        .arg("worker")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let mut orders = child.stdin.take().expect("stdin is piped");
    let news = child.stdout.take().expect("stdout is piped");
    let mut line =
        serde_json::to_vec(job).map_err(|error| format!("cannot write a worker's job: {error}"))?;
    line.push(b'\n');
    orders.write_all(&line).map_err(failed)?;
    std::thread::Builder::new()
        .name(format!("news-{index}"))
        .spawn(move || {
            for line in BufReader::new(news).lines() {
                let Some(news) = line.ok().and_then(|line| serde_json::from_str::<News>(&line).ok()) else {
                    break;
                };
                if to_us.send((index, Some(news))).is_err() {
                    return;
                }
            }
            let _ = to_us.send((index, None));
        })
        .map_err(failed)?;
    Ok(WorkerProcess { child, orders: Some(orders), counters: Counters::default(), ended: false })
}

fn add_timed(recorder: &mut Recorder, timed: &Timed) {
    recorder.login.add_pairs(&timed.login);
    recorder.message.add_pairs(&timed.message);
    recorder.ping.add_pairs(&timed.ping);
    recorder.group.add_pairs(&timed.group);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(workers: u32, sessions_max: u64) -> Layout {
        Layout { workers, sessions_max, rate: 1.0, in_flight_max: 1, ping_interval_ms: 0 }
    }

    #[test]
    fn sessions_are_split_evenly_and_pairs_stay_together() {
        assert_eq!(layout(3, 10).split(10), [4, 4, 2]);
        assert_eq!(layout(2, 10).split(1), [2, 0]);
        for step in layout(3, 100).split(60).into_iter().zip(layout(3, 100).split(100)) {
            assert!(step.0 <= step.1);
        }
    }

    #[test]
    fn too_few_descriptors_are_told_before_anything_starts() {
        assert!(layout(1, 100).check(1_000).is_ok());
        let problem = layout(1, 30_000).check(20_000).unwrap_err();
        assert!(problem.contains("--workers 2"), "{problem}");
    }
}
