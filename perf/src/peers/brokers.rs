//! Message brokers beside the XMPP servers: mosquitto (MQTT 3.1.1, QoS 1) and nats-server.
//!
//! What they do is less: no accounts, no presence, no rosters, nothing kept for those who are away. Here they show what
//! a connection and a message cost where there is little more than these.

use std::process::Command;

use crate::engine::target::{Hint, Transport};
use crate::peers::running::{find_program, free_port};
use crate::peers::{Facts, Peer, Setup, packaged};
use crate::scenario::broker::Speech;

/// mosquitto: nobody logs in, nothing is kept on disk, no limit of connections.
///
/// # Errors
/// It is not installed, or its configuration cannot be written.
pub(super) fn mosquitto(setup: &Setup<'_>) -> Result<Peer, String> {
    let program = find_program("mosquitto", "mosquitto")?;
    let port = free_port()?;
    let config = setup.folder.join("mosquitto.conf");
    // As root it would become another user, who may not read the folder.
    let text = format!(
        "user root\nlistener {port} 127.0.0.1\nallow_anonymous true\nmax_connections -1\npersistence false\n\
         set_tcp_nodelay true\nsys_interval 0\nlog_dest stderr\nlog_type error\n"
    );
    std::fs::write(&config, text).map_err(|error| format!("cannot write {}: {error}", config.display()))?;
    let command = move || {
        let mut command = Command::new(&program);
        command.arg("-c").arg(&config);
        command
    };
    let facts = facts("mosquitto", "MQTT 3.1.1, QoS 1: both ways are acknowledged");
    Ok(peer(setup, "mosquitto", Box::new(command), port, facts, Speech::Mqtt))
}

/// nats-server as it comes: core NATS, in memory.
///
/// # Errors
/// It is not installed.
pub(super) fn nats(setup: &Setup<'_>) -> Result<Peer, String> {
    let program = find_program("nats-server", "nats-server")?;
    let port = free_port()?;
    let command = move || {
        let mut command = Command::new(&program);
        command.args(["-a", "127.0.0.1", "-p", &port.to_string()]);
        command
    };
    let facts = facts("nats-server", "core NATS: at most once, nothing is acknowledged");
    Ok(peer(setup, "nats-server", Box::new(command), port, facts, Speech::Nats))
}

fn facts(package: &str, delivery: &str) -> Facts {
    let mut facts = packaged(package);
    facts.insert("delivery".into(), delivery.into());
    facts.insert("differs".into(), "no accounts, no presence, nothing for those who are away".into());
    facts
}

fn peer(
    setup: &Setup<'_>,
    name: &str,
    command: Box<dyn Fn() -> Command>,
    port: u16,
    facts: Facts,
    speech: Speech,
) -> Peer {
    Peer {
        name: format!("{name} (a broker)"),
        command,
        port,
        tls: false,
        ready_file: None,
        transport: Transport::Tcp,
        folder: setup.folder.to_owned(),
        database: None,
        hint: Hint::None,
        facts,
        broker: Some(speech),
    }
}
