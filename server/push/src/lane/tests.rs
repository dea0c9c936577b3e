//! A lane, told what time it is.

use super::*;
use crate::notification::Target;

const SECOND: Duration = Duration::from_secs(1);

struct Bench {
    lane: Lane,
    start: Instant,
    now: Instant,
}

impl Bench {
    fn new(in_flight: usize) -> Bench {
        let pauses = Pauses { first: SECOND, max: 60 * SECOND, credentials: 30 * SECOND };
        let now = Instant::now();
        Bench { lane: Lane::new(pauses, in_flight, Jitter::new(Some(7))), start: now, now }
    }

    fn add(&mut self, id: u64, kind: Kind, time_to_live: Duration) {
        let notification = Notification {
            id,
            target: Target::Fcm { token: id.to_string() },
            kind,
            count: None,
            sender: None,
            text: None,
            collapse: String::new(),
            time_to_live,
            silent: false,
            sound: None,
            click_action: None,
            mutable_content: false,
            high_priority: true,
        };
        self.lane.add(Job::new(notification, id, self.now, 3_600 * SECOND));
    }

    fn messages(&mut self, ids: std::ops::Range<u64>) {
        ids.for_each(|id| self.add(id, Kind::Message, 3_600 * SECOND));
    }

    /// What starts now.
    fn start(&mut self) -> Vec<Job> {
        let mut started = Vec::new();
        loop {
            match self.lane.next(self.now) {
                Step::Start(job) => started.push(job),
                Step::Over(job, outcome) => panic!("{job:?} {outcome:?}"),
                Step::Wait(_) => return started,
            }
        }
    }

    /// When the lane wants to be asked again.
    fn wake(&mut self) -> Duration {
        match self.lane.next(self.now) {
            Step::Wait(Some(until)) => until - self.now,
            other => panic!("{other:?}"),
        }
    }

    fn done(&mut self, job: Job, started: Instant, verdict: Verdict) -> Option<Outcome> {
        self.lane.done(job, started, verdict, self.now).map(|(_, outcome)| outcome)
    }

    fn wait(&mut self) {
        let pause = self.wake();
        self.now += pause;
    }
}

fn ids(jobs: &[Job]) -> Vec<u64> {
    jobs.iter().map(|job| job.notification.id).collect()
}

fn unreachable() -> Verdict {
    Verdict::Unreachable("down".to_owned())
}

fn later(whose: Whose, after: Option<u64>) -> Verdict {
    Verdict::Later { whose, after: after.map(Duration::from_secs), reason: "busy".to_owned() }
}

#[test]
fn calls_go_first_and_everything_else_in_its_order() {
    let mut bench = Bench::new(2);
    bench.messages(0..3);
    bench.add(3, Kind::Call, 30 * SECOND);
    let first = bench.start();
    assert_eq!(ids(&first), [3, 0]);
    // What is tried again is still the oldest.
    let started = bench.now;
    for job in first {
        bench.now += SECOND / 100;
        assert_eq!(bench.done(job, started, unreachable()), None);
    }
    bench.wait();
    let mut order = Vec::new();
    for _ in 0..4 {
        let [job] = <[Job; 1]>::try_from(bench.start()).unwrap();
        order.push(job.notification.id);
        let started = bench.now;
        bench.now += SECOND / 100;
        bench.done(job, started, Verdict::Gone(String::new()));
        // As if it had failed: one at a time.
        bench.lane.failures = 1;
    }
    assert_eq!(order, [3, 0, 1, 2]);
}

#[test]
fn an_outage_is_counted_once_and_pauses_grow_until_it_ends() {
    let mut bench = Bench::new(10);
    bench.messages(0..50);
    let mut under_way = bench.start();
    assert_eq!(under_way.len(), 10);
    let mut expected = SECOND;
    for round in 0..8 {
        let started = bench.now;
        bench.now += SECOND / 10;
        for job in under_way.drain(..) {
            assert_eq!(bench.done(job, started, unreachable()), None);
        }
        assert!(bench.start().is_empty(), "it pauses");
        let pause = bench.wake();
        assert!((expected / 2..=expected * 3 / 2).contains(&pause), "{round}: {pause:?} of {expected:?}");
        expected = (expected * 2).min(60 * SECOND);
        bench.now += pause;
        under_way = bench.start();
        assert_eq!(under_way.len(), 1, "one at a time until it works");
    }
    let started = bench.now;
    let job = under_way.remove(0);
    assert_eq!(bench.done(job, started, Verdict::Sent), Some(Outcome::Sent));
    assert_eq!(bench.start().len(), 10, "all again");
}

#[test]
fn a_pause_that_is_named_is_never_shortened_and_the_longest_counts() {
    let mut bench = Bench::new(3);
    bench.messages(0..10);
    let under_way = bench.start();
    let started = bench.now;
    bench.now += SECOND;
    for (job, after) in under_way.into_iter().zip([Some(20), Some(100), None]) {
        assert_eq!(bench.done(job, started, later(Whose::Provider, after)), None);
    }
    let pause = bench.wake();
    assert!((100 * SECOND..126 * SECOND).contains(&pause), "{pause:?}");
}

#[test]
fn refused_keys_are_told_once_in_a_pause() {
    let mut bench = Bench::new(5);
    bench.messages(0..20);
    let mut told = 0;
    for round in 0..4 {
        let under_way = bench.start();
        assert_eq!(under_way.len(), if round == 0 { 5 } else { 1 });
        let started = bench.now;
        bench.now += SECOND;
        for job in under_way {
            told += usize::from(bench.done(job, started, Verdict::Credentials("no".to_owned())).is_some());
        }
        assert_eq!(told, round + 1);
        assert!(bench.lane.closed().is_some_and(|closed| closed.credentials));
        bench.wait();
    }
    // 30, 60, 120 and 240 seconds, give or take a half.
    assert!(bench.now - bench.start > 225 * SECOND);
}

#[test]
fn a_device_that_must_wait_is_no_reason_for_others_unless_all_must() {
    let mut bench = Bench::new(10);
    bench.add(0, Kind::Message, 3_600 * SECOND);
    for _ in 0..10 {
        let job = bench.start().remove(0);
        let started = bench.now;
        assert_eq!(bench.done(job, started, later(Whose::Device, Some(5))), None);
        assert!(bench.lane.closed().is_none());
        assert!(bench.wake() >= 5 * SECOND);
        bench.wait();
    }
    let mut bench = Bench::new(10);
    bench.messages(0..10);
    let started = bench.now;
    for (n, job) in bench.start().into_iter().enumerate() {
        assert_eq!(bench.lane.closed().is_some(), n >= STRIKES, "after {n} devices");
        bench.now += SECOND;
        bench.done(job, started, Verdict::Stalled("late".to_owned()));
    }
    // Nor does one that is told to wait for an hour, just when the service is tried again, make the others wait for an hour.
    let mut bench = Bench::new(10);
    bench.messages(0..3);
    let started = bench.now;
    for job in bench.start() {
        bench.now += SECOND / 100;
        assert_eq!(bench.done(job, started, unreachable()), None);
    }
    bench.wait();
    let job = bench.start().remove(0);
    let started = bench.now;
    bench.now += SECOND;
    bench.done(job, started, later(Whose::Device, Some(3_000)));
    assert_eq!((bench.start().len(), bench.lane.closed()), (1, None), "another one is tried");
    // A notification whose own name leads nowhere says nothing of others, however many there are.
    let mut bench = Bench::new(10);
    bench.messages(0..10);
    let started = bench.now;
    for job in bench.start() {
        assert_eq!(bench.done(job, started, later(Whose::Notification, None)), None);
    }
    assert!(bench.lane.closed().is_none());
}

#[test]
fn what_is_too_late_is_given_up_with_its_last_reason() {
    let mut bench = Bench::new(1);
    bench.add(0, Kind::Message, 10 * SECOND);
    bench.add(1, Kind::Message, 5 * SECOND);
    let job = bench.start().remove(0);
    let started = bench.now;
    // The one that waits in the queue is given up at its own time, whatever is under way.
    assert_eq!(bench.wake(), 5 * SECOND);
    bench.wait();
    let Step::Over(late, outcome) = bench.lane.next(bench.now) else { panic!("it is late") };
    assert_eq!((late.notification.id, late.attempts), (1, 0));
    assert_eq!(outcome, Outcome::Overdue("it waited too long for those before it".to_owned()));
    // No pause is begun that ends behind the deadline.
    let outcome = bench.done(job, started, later(Whose::Device, Some(60)));
    assert_eq!(outcome, Some(Outcome::Overdue("busy".to_owned())));
    assert!(matches!(bench.lane.next(bench.now), Step::Wait(None)));

    // An attempt that was cut short is not why.
    bench.add(2, Kind::Message, 10 * SECOND);
    let job = bench.start().remove(0);
    let started = bench.now;
    bench.now += SECOND;
    assert_eq!(bench.done(job, started, unreachable()), None);
    bench.wait();
    let job = bench.start().remove(0);
    let started = bench.now;
    bench.now = job.deadline;
    let outcome = bench.done(job, started, Verdict::Stalled("no answer".to_owned()));
    assert_eq!(outcome, Some(Outcome::Overdue("down".to_owned())));
}

#[test]
fn all_that_waits_is_drained() {
    let mut bench = Bench::new(2);
    bench.messages(0..5);
    let started = bench.now;
    let mut under_way = bench.start();
    let job = under_way.remove(0);
    bench.done(job, started, later(Whose::Device, Some(60)));
    let mut left = ids(&bench.lane.drain().collect::<Vec<_>>());
    left.sort_unstable();
    assert_eq!(left, [0, 2, 3, 4]);
    assert!(matches!(bench.lane.next(bench.now), Step::Wait(None)));
}
