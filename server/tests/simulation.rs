//! Whole servers in simulated worlds: a fixed set of seeds, or those of the environment.
//!
//! ```text
//! cargo test -p whimbrel-server --test simulation                                   the fixed set
//! WHIMBREL_SEED=17 cargo test -p whimbrel-server --test simulation every_seed          one seed again
//! WHIMBREL_SEEDS=100..200 cargo test -p whimbrel-server --test simulation every_seed   more of them
//! WHIMBREL_SEEDS=0..500 cargo test -p whimbrel-server --test simulation managed      crashes and stream management
//! WHIMBREL_SEEDS=0..500 cargo test -p whimbrel-server --test simulation siege        attackers beside calm talkers
//! WHIMBREL_WATCH=3,5 WHIMBREL_SEED=17 cargo test …                                  with what users 3 and 5 said and heard
//! WHIMBREL_CLIENTS=5000 cargo test -p whimbrel-server --test simulation crowd       a larger crowd
//! ```
#![allow(clippy::unwrap_used)]

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::Instant;

use whimbrel_server::simulation::{Besieged, Managed, Report, Settings, Siege, Tally, World};

/// Small worlds of an ordinary run.
const SEEDS: Range<u64> = 0..10;

/// Worlds of stream management and crashes of an ordinary run.
const MANAGED_SEEDS: Range<u64> = 0..18;

/// Worlds under siege of an ordinary run.
const SIEGE_SEEDS: Range<u64> = 0..24;

/// Clients of the one large world of an ordinary run.
const CROWD: usize = 1500;

fn run(mut settings: Settings, test: &str) -> Report {
    if let Ok(users) = std::env::var("WHIMBREL_WATCH") {
        settings.watch = users.split(',').map(|user| user.trim().parse().unwrap()).collect();
    }
    let seed = settings.seed;
    let began = Instant::now();
    let replay = format!("WHIMBREL_SEED={seed} cargo test -p whimbrel-server --test simulation {test}");
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let data = tempfile::tempdir().unwrap();
        World::new(settings, data.path()).unwrap_or_else(|error| panic!("{error}")).run()
    }));
    let report = match outcome {
        Ok(Ok(report)) => report,
        Ok(Err(failure)) if !failure.log.is_empty() => {
            panic!("{}\n{failure}\nagain: {replay}", failure.log.join("\n"))
        }
        Ok(Err(failure)) => panic!("{failure}\nagain: {replay}"),
        Err(_) => panic!("seed {seed}: the server has panicked\nagain: {replay}"),
    };
    let (sent, delivered, copied, refused) = report.messages;
    println!(
        "seed {seed}: {} sessions ({} at once), {} steps ({:.0} a minute), {} s of virtual time, trace {:016x}\n  \
         {sent} messages, {delivered} delivered, {copied} copied, {refused} refused; \
         {} views of presence and {} roster items checked; {} connections with TLS, ended without a closed stream {:?}",
        report.sessions,
        report.sessions_at_once,
        report.steps,
        report.steps as f64 * 60.0 / began.elapsed().as_secs_f64(),
        report.virtual_ms / 1000,
        report.trace,
        report.presences_checked,
        report.rosters_checked,
        report.handshakes,
        report.tls_ends,
    );
    if std::env::var_os("WHIMBREL_METRICS").is_some() {
        println!("  {:?}", report.metrics);
    }
    report
}

/// The seeds of the environment, or else `usual`.
fn seeds(usual: Range<u64>) -> Range<u64> {
    let number = |text: &str| text.trim().parse::<u64>().unwrap_or_else(|error| panic!("{text:?}: {error}"));
    if let Ok(seed) = std::env::var("WHIMBREL_SEED") {
        return number(&seed)..number(&seed) + 1;
    }
    let Ok(text) = std::env::var("WHIMBREL_SEEDS") else { return usual };
    let (from, to) = text.split_once("..").expect("WHIMBREL_SEEDS is FROM..TO");
    number(from)..number(to)
}

#[test]
fn what_must_be_true_is_true_in_every_seed() {
    let seeds = seeds(SEEDS);
    let (began, count) = (Instant::now(), seeds.end - seeds.start);
    let (mut steps, mut sessions) = (0, 0);
    let (mut reloads, mut stops, mut blocks, mut events, mut tls_ends) = (0, 0, 0, 0, [0; 6]);
    let (mut rooms, mut nodes, mut archives, mut told, mut gathered) = (0, 0, 0, (0, 0), 0);
    for seed in seeds {
        let report = run(Settings::small(seed), "every_seed");
        steps += report.steps;
        sessions += report.sessions;
        reloads += report.reloads;
        stops += report.stops;
        blocks += report.blocks_checked;
        events += report.events;
        rooms += report.room_messages;
        nodes += report.node_items;
        archives += report.archives_read;
        gathered += report.gathered;
        told = (told.0 + report.notifications.0, told.1 + report.notifications.1);
        tls_ends.iter_mut().zip(report.tls_ends).for_each(|(all, one)| *all += one);
    }
    let minutes = began.elapsed().as_secs_f64() / 60.0;
    println!(
        "{count} seeds ({:.0} a minute), {sessions} sessions, {:.0} steps a minute, {reloads} reloads, {stops} stops, \
         {blocks} presences between users who have blocked each other, {events} events of accounts' nodes, {nodes} of the service's, {archives} archives read, {gathered} messages of them gathered, {rooms} messages heard in rooms, {told:?} notifications of devices and messages that had to be told, ends of TLS {tls_ends:?}",
        count as f64 / minutes,
        steps as f64 / minutes
    );
    if count >= SEEDS.end - SEEDS.start {
        let ends = tls_ends.iter().all(|count| *count > 0);
        assert!(
            reloads > 0
                && stops > 0
                && blocks > 0
                && events > 0
                && nodes > 0
                && archives > 0
                && gathered > 0
                && rooms > 0
                && told.0 > 0
                && told.1 > 0
                && ends,
            "these worlds leave something out"
        );
    }
}

fn run_managed(seed: u64) -> Tally {
    // Many small commits: in memory where that is usual.
    let memory = Path::new("/dev/shm");
    let data = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
    let replay = format!("WHIMBREL_SEED={seed} cargo test -p whimbrel-server --test simulation managed");
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let mut world = Managed::new(seed, data.path()).unwrap_or_else(|error| panic!("{error}"));
        if let Ok(users) = std::env::var("WHIMBREL_WATCH") {
            world.watch(users.split(',').map(|user| user.trim().parse().unwrap()).collect());
        }
        world.run()
    }));
    match outcome {
        Ok(Ok(tally)) => tally,
        Ok(Err(failure)) => panic!("{}\n{failure}\nagain: {replay}", failure.log.join("\n")),
        Err(_) => panic!("seed {seed}: the server has panicked\nagain: {replay}"),
    }
}

/// Adds what happened in one world to what happened in all.
fn add(all: &mut Tally, tally: &Tally) {
    all.kills += tally.kills;
    all.power_cuts += tally.power_cuts;
    all.messages += tally.messages;
    all.again += tally.again;
    all.doubled += tally.doubled;
    all.resumed += tally.resumed;
    all.refused += tally.refused;
    all.refused_with_h += tally.refused_with_h;
    all.told_after_sleep += tally.told_after_sleep;
    all.from_log += tally.from_log;
    all.kept += tally.kept;
    all.handshakes += tally.handshakes;
    all.websockets += tally.websockets;
    all.changed_transport += tally.changed_transport;
    all.kept_promises += tally.kept_promises;
    all.resumed_after_tls += tally.resumed_after_tls;
    all.upgrades += tally.upgrades;
    all.upgrades_put_off += tally.upgrades_put_off;
    all.carried += tally.carried;
    all.stops += tally.stops;
    all.woken += tally.woken;
    all.recalled += tally.recalled;
    all.spooled += tally.spooled;
    all.fleeting += tally.fleeting;
    all.heard_in_rooms += tally.heard_in_rooms;
    all.acknowledged_in_rooms += tally.acknowledged_in_rooms;
    all.refused_in_rooms += tally.refused_in_rooms;
    all.kept_in_rooms += tally.kept_in_rooms;
    all.memberships += tally.memberships;
    all.orders += tally.orders;
    all.preferences += tally.preferences;
    all.pages += tally.pages;
    all.interrupted += tally.interrupted;
    all.read += tally.read;
    all.readings += tally.readings;
    all.archived += tally.archived;
    all.accounts += tally.accounts;
    all.backups += tally.backups;
    all.restored += tally.restored;
    all.gathered += tally.gathered;
}

#[test]
fn managed_what_is_acknowledged_arrives_whatever_is_cut_and_whenever_the_server_crashes() {
    let seeds = seeds(MANAGED_SEEDS);
    let (began, count) = (Instant::now(), seeds.end - seeds.start);
    let mut all = Tally::default();
    for seed in seeds {
        let tally = run_managed(seed);
        println!("seed {seed}: {tally:?}");
        add(&mut all, &tally);
    }
    println!("{count} seeds in {:?}: {all:?}", began.elapsed());
    if count >= MANAGED_SEEDS.end - MANAGED_SEEDS.start {
        let seen = [
            all.kills,
            all.power_cuts,
            all.resumed,
            all.refused,
            all.refused_with_h,
            all.told_after_sleep,
            all.from_log,
            all.kept,
            all.again,
            all.handshakes,
            all.websockets,
            all.changed_transport,
            all.kept_promises,
            all.resumed_after_tls,
            all.upgrades,
            all.carried,
            all.stops,
            all.woken,
            all.recalled,
            all.spooled,
            all.fleeting,
            all.heard_in_rooms,
            all.acknowledged_in_rooms,
            all.kept_in_rooms,
            all.memberships,
            all.orders,
            all.preferences,
            all.pages,
            all.interrupted,
            all.read,
            all.readings,
            all.archived,
            all.restored,
            all.gathered,
        ];
        assert!(all.accounts > 3 && all.backups > 3, "these worlds leave something out: {all:?}");
        assert!(seen.iter().all(|count| *count > 10), "these worlds leave something out: {all:?}");
    }
}

#[test]
fn managed_the_same_seed_gives_the_same_bytes() {
    let tally = run_managed(2);
    assert!(tally.handshakes > 0, "TLS takes chance from the system, and must not show it");
    assert_eq!(run_managed(2), tally);
}

fn run_siege(seed: u64) -> Besieged {
    let data = tempfile::tempdir().unwrap();
    let replay = format!("WHIMBREL_SEED={seed} cargo test -p whimbrel-server --test simulation siege");
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let mut world = Siege::new(seed, data.path()).unwrap_or_else(|error| panic!("{error}"));
        if let Ok(users) = std::env::var("WHIMBREL_WATCH") {
            world.watch(users.split(',').map(|user| user.trim().parse().unwrap()).collect());
        }
        world.run()
    }));
    match outcome {
        Ok(Ok(besieged)) => besieged,
        Ok(Err(failure)) => panic!("{}\n{failure}\nagain: {replay}", failure.log.join("\n")),
        Err(_) => panic!("seed {seed}: the server has panicked\nagain: {replay}"),
    }
}

#[test]
fn siege_attackers_delay_nobody_end_nobody_and_fill_nothing() {
    let seeds = seeds(SIEGE_SEEDS);
    let began = Instant::now();
    let mut all = Besieged::default();
    for seed in seeds.clone() {
        let one = run_siege(seed);
        println!("seed {seed}: {one:?}");
        all.messages += one.messages;
        all.requests += one.requests;
        all.ended += one.ended;
        all.slowest = all.slowest.max(one.slowest);
        all.busiest = all.busiest.max(one.busiest);
        all.hardest = all.hardest.max(one.hardest);
        all.backlog = all.backlog.max(one.backlog);
        all.account = all.account.max(one.account);
        all.left += one.left;
        all.stripped += one.stripped;
    }
    println!("{} seeds in {:?}: {all:?}", seeds.end - seeds.start, began.elapsed());
    if seeds.end - seeds.start >= SIEGE_SEEDS.end - SIEGE_SEEDS.start {
        assert!(
            all.messages > 1_000 && all.requests > 10_000 && all.stripped > 0,
            "these worlds leave something out: {all:?}"
        );
    }
}

#[test]
fn siege_the_same_seed_gives_the_same_bytes() {
    assert_eq!(run_siege(3), run_siege(3));
}

#[test]
fn a_crowd_of_sessions_lives_in_one_world() {
    let clients = std::env::var("WHIMBREL_CLIENTS").map_or(CROWD, |text| text.trim().parse().unwrap());
    for seed in seeds(1..2) {
        let report = run(Settings::crowd(seed, clients), "crowd");
        assert!(report.sessions_at_once as usize > clients / 2, "{}", report.sessions_at_once);
    }
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let settings = Settings { phases: 1, ..Settings::small(3) };
    let (a, b) = (run(settings.clone(), "same"), run(settings.clone(), "same"));
    assert_eq!((a.trace, a.steps, a.messages), (b.trace, b.steps, b.messages));
    assert!(a.handshakes > 0, "TLS takes chance from the system, and must not show it");
    let other = run(Settings { seed: 4, ..settings }, "same");
    assert_ne!(a.trace, other.trace);
}
