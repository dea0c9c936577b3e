//! `upload`: files go to the server (XEP-0363) and come back, and the same files by the same client to nginx and back, which takes
//! them with its module for WebDAV and gives them as static files. Both without TLS, or both with it, in turns in one run.
//!
//! ```text
//! each round, each server:  connections ─► PUT, file after file, until all are there ─► GET, again and again, for some seconds
//! ```
//! Each file is read to its end and its length compared; one in every round byte by byte. The server puts each upload on the disk before it
//! answers, and nginx does not.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`http`] | a client: PUT and GET on one connection |
//! | [`servers`] | whimbreld and nginx, on a folder of their own |

mod http;
mod servers;

use std::io::Write;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::cli::{Tls, UploadArgs};
use crate::fleet::coordinator::interruption;
use http::{Connection, Tunnel};
use servers::{Nginx, Whimbrel};

/// A file on a server: where it is put and got from.
#[derive(Clone, Debug)]
struct Place {
    put: String,
    get: String,
}

/// What one server has done in one round, in bytes a second.
#[derive(Clone, Copy, Debug)]
struct Figures {
    up: f64,
    down: f64,
}

/// Runs it and prints the table.
///
/// # Errors
/// A server is not installed or does not start; a transfer fails.
pub(crate) fn main(args: &UploadArgs) -> Result<ExitCode, String> {
    let interrupted = interruption()?;
    let folder = tempfile::Builder::new()
        .prefix("whimbrel-upload-")
        .tempdir()
        .map_err(|error| format!("cannot make a temporary folder: {error}"))?;
    let tunnel = Tunnel::new(args.tls == Tls::Direct);
    let whimbrel = Whimbrel::start(args, &folder.path().join("whimbrel"))?;
    let nginx = Nginx::start(args, &folder.path().join("nginx"), &whimbrel)?;
    let content = content((args.kib as usize) << 10);
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 1..=args.rounds {
        if interrupted.load(Ordering::Relaxed) {
            return Err("interrupted".into());
        }
        let note = |who: &str| {
            if !args.quiet {
                // A closed standard error ends no run.
                let _ = writeln!(
                    std::io::stderr(),
                    "whimbrel-perf upload: round {round} of {}: {who}",
                    args.rounds
                );
            }
        };
        note("whimbrel");
        let places = whimbrel.places(args, content.len())?;
        ours.push(round_on(args, &tunnel, whimbrel.port, &places, &content)?);
        note("nginx");
        let places = nginx.places(args, round);
        theirs.push(round_on(args, &tunnel, nginx.port, &places, &content)?);
    }
    deliver(args, &ours, &theirs);
    Ok(ExitCode::SUCCESS)
}

/// Bytes that repeat at no power of two.
fn content(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (at % 251) as u8).collect()
}

fn round_on(
    args: &UploadArgs,
    tunnel: &Tunnel,
    port: u16,
    places: &[Place],
    content: &[u8],
) -> Result<Figures, String> {
    let connections = args.connections as usize;
    let shares: Vec<&[Place]> = places.chunks(places.len().div_ceil(connections)).collect();
    let began = Instant::now();
    on_each(&shares, |share| {
        let mut connection = Connection::open(tunnel, port)?;
        share.iter().try_for_each(|place| connection.put(&place.put, content))
    })?;
    let up = (places.len() * content.len()) as f64 / began.elapsed().as_secs_f64();
    let (bytes, over) = (AtomicU64::new(0), AtomicBool::new(false));
    let time = Duration::from_secs(args.seconds.into());
    let began = Instant::now();
    on_each(&shares, |share| {
        let mut connection = Connection::open(tunnel, port)?;
        if let Some(first) = share.first() {
            connection.compare(&first.get, content)?;
        }
        // Each connection has a count of its own until its end, so that they do not get in each other's way.
        let mut own = content.len() as u64;
        for place in share.iter().cycle() {
            if over.load(Ordering::Relaxed) || began.elapsed() >= time {
                break;
            }
            own += connection.get(&place.get, content.len() as u64)?;
        }
        over.store(true, Ordering::Relaxed);
        bytes.fetch_add(own, Ordering::Relaxed);
        Ok(())
    })?;
    Ok(Figures { up, down: bytes.into_inner() as f64 / began.elapsed().as_secs_f64() })
}

/// One thread for each share.
fn on_each(
    shares: &[&[Place]],
    work: impl Fn(&[Place]) -> Result<(), String> + Send + Sync,
) -> Result<(), String> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = shares.iter().map(|share| scope.spawn(|| work(share))).collect();
        let ends =
            threads.into_iter().map(|thread| thread.join().map_err(|_| "a client panicked".to_owned())?);
        ends.collect::<Vec<_>>().into_iter().collect()
    })
}

fn median(figures: &[Figures], of: fn(&Figures) -> f64) -> f64 {
    let mut all: Vec<f64> = figures.iter().map(of).collect();
    all.sort_by(f64::total_cmp);
    all.get(all.len() / 2).copied().unwrap_or_default()
}

/// The table: medians of all rounds, and the part that the server is of nginx.
fn deliver(args: &UploadArgs, ours: &[Figures], theirs: &[Figures]) {
    const MB: f64 = 1e6;
    let mut out = std::io::stdout();
    let row = |what: &str, of: fn(&Figures) -> f64| {
        let (our, their) = (median(ours, of) / MB, median(theirs, of) / MB);
        json!({ "what": what, "whimbrel_mb_per_second": our, "nginx_mb_per_second": their, "part": our / their })
    };
    let rows = [row("uploads", |figures| figures.up), row("downloads", |figures| figures.down)];
    if args.json {
        let value = json!({
            "kib": args.kib, "files": args.files, "connections": args.connections, "rounds": args.rounds,
            "tls": args.tls == Tls::Direct, "rows": rows,
        });
        let _ = writeln!(out, "{value}");
        return;
    }
    let number = |row: &Value, key: &str| row[key].as_f64().unwrap_or_default();
    let _ = writeln!(out, "{:<10} {:>16} {:>13} {:>6}", "", "whimbrel, MB/s", "nginx, MB/s", "part");
    for row in &rows {
        let _ = writeln!(
            out,
            "{:<10} {:>16.0} {:>13.0} {:>6.2}",
            row["what"].as_str().unwrap_or_default(),
            number(row, "whimbrel_mb_per_second"),
            number(row, "nginx_mb_per_second"),
            number(row, "part")
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_one_counts() {
        let figures = [3.0, 1.0, 2.0].map(|up| Figures { up, down: 0.0 });
        assert!((median(&figures, |figures| figures.up) - 2.0).abs() < f64::EPSILON);
        assert!(median(&[], |figures| figures.up).abs() < f64::EPSILON);
    }
}
