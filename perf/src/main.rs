//! `whimbrel-perf`: load and measurement of XMPP servers, ours and others'.
//!
//! ```text
//! whimbrel-perf hold|chat|storm|offline|presence|life|attack|archive|group|pep
//!      │ scenario: orders to the fleet, samples of /proc beside it
//!      ▼
//!   coordinator ──► worker processes (engine: one thread each) ──► the server under test
//!      │
//!      ▼
//!   report: text, JSON, HTML
//! ```
//!
//! | module | what it does |
//! | --- | --- |
//! | [`cli`] | the command line |
//! | [`engine`] | client sessions, one thread |
//! | [`fleet`] | worker processes and their coordinator |
//! | [`scenario`] | hold, chat, storm, offline, presence, life, upgrade, attack, archive, group, pep |
//! | [`sample`] | figures of the server process, kernel and machine |
//! | [`report`] | what a run ends with |
//! | [`floor`] | a router that does nothing but route, for comparison |
//! | [`peers`], [`variant`] | several servers under the same load; ways to run ours |
//! | [`tune`] | system settings for many connections |
//! | [`account`] | names and passwords |
#![deny(unsafe_code)]

mod account;
mod cli;
mod engine;
mod fleet;
mod floor;
mod peers;
mod report;
mod sample;
mod scenario;
#[expect(unsafe_code, reason = "system calls")]
mod tune;
mod variant;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match cli.command {
        Command::Worker => return fleet::worker::main(),
        Command::AttackWorker => return scenario::attack::worker(),
        Command::FloorServe(args) => return floor::router::serve(&args),
        Command::Accounts(args) => accounts(&args),
        Command::Hold(args) => scenario::hold::main(&args),
        Command::Chat(args) => scenario::chat::main(&args),
        Command::Storm(args) => scenario::storm::main(&args),
        Command::Offline(args) => scenario::offline::main(&args),
        Command::Presence(args) => scenario::presence::main(&args),
        Command::Life(args) => scenario::life::main(&args),
        Command::Upgrade(args) => scenario::upgrade::main(&args),
        Command::Upload(args) => scenario::upload::main(&args),
        Command::Attack(args) => scenario::attack::main(&args),
        Command::Archive(args) => scenario::archive::main(&args),
        Command::Group(args) => scenario::group::main(&args),
        Command::Pep(args) => scenario::pep::main(&args),
        Command::Floor(args) => floor::main(&args),
        Command::Peers(args) => peers::main(&args),
        Command::Report(args) => report::compare(&args),
        Command::Merge(args) => report::merge::main(&args),
        Command::Compare(args) => report::baseline::main(&args),
        Command::Tune(args) => tune::main(&args),
    };
    match outcome {
        Ok(code) => code,
        Err(text) => {
            // A closed standard error leaves nobody to tell.
            let _ = writeln!(std::io::stderr(), "whimbrel-perf: {text}");
            ExitCode::FAILURE
        }
    }
}

fn accounts(args: &cli::AccountsArgs) -> Result<ExitCode, String> {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let accounts = account::Accounts::new(&args.seed, &args.domain, args.one_password);
    let written = if args.scram_keys {
        accounts.write_keys(args.first, args.count, args.iterations, &mut out)
    } else {
        accounts.write_import(args.first, args.count, &mut out)
    };
    written.and_then(|()| out.flush()).map_err(|error| format!("cannot write the accounts: {error}"))?;
    Ok(ExitCode::SUCCESS)
}
