//! The generator against the real server, where that has been built into the same target directory.

use std::io::Read;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::{perf, report, told};

/// A program of the workspace beside ours.
fn beside(name: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_BIN_EXE_whimbrel-perf")).with_file_name(name);
    path.exists().then_some(path)
}

struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
#[expect(clippy::too_many_lines, reason = "a test that is one story")]
fn logins_and_messages_succeed_in_the_clear_and_under_tls() {
    let (Some(whimbreld), Some(whimbrelctl)) = (beside("whimbreld"), beside("whimbrelctl")) else {
        eprintln!("skipped: build whimbreld and whimbrelctl first");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let accounts = folder.path().join("accounts");
    // Half of the accounts are imported by their passwords, half by their SCRAM keys.
    let mut lines = perf(&["accounts", "5"]).stdout;
    lines.extend(perf(&["accounts", "5", "--first", "5", "--scram-keys"]).stdout);
    std::fs::write(&accounts, lines).unwrap();
    let data = data.to_str().unwrap();
    let import = Command::new(whimbrelctl)
        .args(["--data", data, "user", "import", "--create", accounts.to_str().unwrap()])
        .output()
        .unwrap();
    assert!(import.status.success(), "{import:?}");
    let (plain, tls) = (free_port(), free_port());
    let child = Command::new(whimbreld)
        .args(["--data", data, "--listen", &format!("127.0.0.1:{plain}")])
        .args(["--listen-tls", &format!("127.0.0.1:{tls}"), "--listen-http", "none", "--allow-plaintext"])
        .args(["--workers", "2"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut server = Server(child);
    let end = Instant::now() + Duration::from_secs(30);
    while std::net::TcpStream::connect(("127.0.0.1", tls)).is_err() {
        if Instant::now() > end {
            let _ = server.0.kill();
            let mut text = String::new();
            let _ = server.0.stderr.take().unwrap().read_to_string(&mut text);
            panic!("whimbreld does not listen: {text}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let keys = folder.path().join("keys");
    for (port, how, sasl) in [
        (plain, "none", "auto"),
        (plain, "none", "scram-sha-1"),
        (plain, "starttls", "plain"),
        (tls, "direct", "scram-sha-256"),
    ] {
        let output = perf(&[
            "chat",
            "--port",
            &port.to_string(),
            "--tls",
            how,
            "--sasl",
            sasl,
            "--sessions",
            "10",
            "--warmup",
            "0",
            "--duration",
            "1",
            "--drain",
            "20",
            "--quiet",
            "--json",
            "-",
            "--keys",
            keys.to_str().unwrap(),
        ]);
        assert_eq!(told(&output).0, Some(0), "{how} {sasl}: {}", told(&output).1);
        let totals = &report(&output)["totals"];
        assert_eq!(totals["logins"], 10, "{how} {sasl}");
        assert!(totals["sent"].as_u64().unwrap() > 0);
        assert_eq!(totals["sent"], totals["delivered"], "{how} {sasl}");
    }
    let port = plain.to_string();
    let keys = keys.to_str().unwrap();
    let hold =
        ["hold", "--port", &port, "--sessions", "4,10", "--settle", "0", "--duration", "2", "--drain", "30"];
    let more = ["--messages", "50", "--ping", "1", "--pipeline", "--quiet", "--json", "-", "--keys", keys];
    let output = perf(&[&hold[..], &more].concat());
    assert_eq!(told(&output).0, Some(0), "hold: {}", told(&output).1);
    let totals = &report(&output)["totals"];
    assert_eq!(totals["logins"], 10);
    assert_eq!(totals["stream_management"], 10);
    assert!(totals["sent"].as_u64().unwrap() > 0);
    assert_eq!(totals["sent"], totals["delivered"]);
    drop(server);
}

#[test]
fn an_attack_is_measured_beside_a_chat_and_its_findings_are_a_report() {
    let (Some(_), Some(_)) = (beside("whimbreld"), beside("whimbrelctl")) else {
        eprintln!("skipped: build whimbreld and whimbrelctl first");
        return;
    };
    let kinds = "pings,slow,pep,node,guesses,half-logins,room,room-stays,many";
    let args = [
        "attack",
        "--kinds",
        kinds,
        "--clients",
        "3",
        "--rounds",
        "1",
        "--seconds",
        "1",
        "--quiet",
        "--json",
        "-",
    ];
    let output = perf(&args);
    let (code, stderr) = told(&output);
    assert_eq!(code, Some(0), "{stderr}");
    let findings = report(&output);
    let rows = findings["rows"].as_array().unwrap();
    let names: Vec<_> = rows.iter().map(|row| row["kind"].as_str().unwrap()).collect();
    assert_eq!(names.join(","), kinds);
    for row in rows {
        // How long it took is the machine's business; that it was measured is ours.
        for part in ["calm", "flooded"] {
            assert!(row[part]["count"].as_u64().is_some_and(|count| count > 0), "{row}");
        }
        assert!(row["stanzas"].as_u64().is_some_and(|stanzas| stanzas > 0), "{row}");
        assert!(row["flooded_loop"]["p99"].is_number(), "the server's own histogram is read: {row}");
    }
    assert_eq!(findings["runs"][0]["phases"].as_array().map(Vec::len), Some(2 * rows.len()));
}

#[test]
fn a_soak_says_what_the_servers_memory_does() {
    let (Some(_), Some(_)) = (beside("whimbreld"), beside("whimbrelctl")) else {
        eprintln!("skipped: build whimbreld and whimbrelctl first");
        return;
    };
    let kinds = ["--kinds", "pings,roster", "--clients", "3"];
    let args = [&["attack", "--soak", "2", "--soak-rate", "500", "--quiet"][..], &kinds].concat();
    let output = perf(&args);
    let (code, stderr) = told(&output);
    assert_eq!(code, Some(0), "{stderr}");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("MiB resident") && text.contains("messages arrived"), "{text}");
}

#[test]
fn the_archive_of_a_server_that_has_one_is_filled_and_read() {
    let (Some(whimbreld), Some(_)) = (beside("whimbreld"), beside("whimbrelctl")) else {
        eprintln!("skipped: build whimbreld and whimbrelctl first");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("whimbrel.toml");
    std::fs::write(&config, "[archive]\nenabled = true\n").unwrap();
    let data = folder.path().join("data");
    let check = Command::new(whimbreld)
        .args(["--config", config.to_str().unwrap(), "--data", data.to_str().unwrap(), "--check"])
        .output()
        .unwrap();
    let has_archive = !String::from_utf8_lossy(&check.stderr).contains("unknown key `archive`");
    let mut args =
        vec!["archive", "--servers", "whimbrel", "--whimbrel", "mio:1", "--accounts", "5", "--contacts", "2"];
    args.extend(["--each", "20", "--page", "7", "--seconds", "0", "--quiet", "--json", "-"]);
    let output = perf(&args);
    let (code, stderr) = told(&output);
    if !has_archive {
        assert_eq!(code, Some(1), "{stderr}");
        assert!(stderr.contains("has no archive"), "{stderr}");
        let peers = perf(&["peers", "--servers", "whimbrel", "--archive", "on", "--quiet"]);
        assert_eq!(told(&peers).0, Some(1));
        assert!(told(&peers).1.contains("no archive to switch on"), "{}", told(&peers).1);
        return;
    }
    assert_eq!(code, Some(0), "{stderr}");
    let read = &report(&output)["runs"][1];
    assert_eq!(read["phases"][0]["counted"]["delivered"], 5 * 4 * 20, "{read}");
}

#[test]
// An unoptimised server takes 59 MiB before it reads anything; what it may have beyond is for pages.
fn a_chat_is_measured_beside_readers_in_little_memory() {
    let (Some(_), Some(_)) = (beside("whimbreld"), beside("whimbrelctl")) else {
        eprintln!("skipped: build whimbreld and whimbrelctl first");
        return;
    };
    let mut args =
        vec!["archive", "--whimbrel", "mio:1", "--readers", "6", "--contacts", "2", "--accounts", "6"];
    args.extend(["--cgroup-mib", "80", "--body", "10000", "--at-once", "3", "--seconds", "1", "--quiet"]);
    args.extend(["--json", "-"]);
    let output = perf(&args);
    let (code, stderr) = told(&output);
    if ["cannot make the memory cgroup", "no memory cgroups", "are Linux's"]
        .iter()
        .any(|no| stderr.contains(no))
    {
        assert_eq!(code, Some(1), "{stderr}");
        eprintln!("skipped: {stderr}");
        return;
    }
    assert_eq!(code, Some(0), "{stderr}");
    let report = report(&output);
    let [fill, read] = &report["runs"].as_array().unwrap()[..] else { panic!("{report}") };
    assert!(fill["phases"][0]["figures"]["MiB of the index for each million copies"].as_f64().unwrap() > 0.0);
    let [calm, beside] = &read["phases"].as_array().unwrap()[..] else { panic!("{read}") };
    for phase in [calm, beside] {
        assert!(phase["latencies"]["chat"]["count"].as_u64().unwrap() >= 400, "{phase}");
    }
    assert!(beside["counted"]["delivered"].as_u64().unwrap() > 0, "{beside}");
    for (figure, least) in [
        ("archive by the memory of the cgroup", 4.0),
        ("reads of files for a page", 1.0),
        ("KiB from the disk for a page", 0.1),
    ] {
        assert!(beside["figures"][figure].as_f64().unwrap() >= least, "{figure}: {beside}");
    }
}

/// Ours, with whatever other servers are installed.
fn servers_that_are_here() -> Vec<&'static str> {
    let installed = |program: &str| {
        ["/usr/bin", "/usr/sbin"].iter().any(|folder| Path::new(folder).join(program).is_file())
    };
    let mut servers = vec!["whimbrel"];
    for (server, program) in [("ejabberd", "ejabberdctl"), ("prosody", "prosody")] {
        match installed(program) {
            true => servers.push(server),
            false => eprintln!("skipped: {server} is not installed"),
        }
    }
    servers
}

#[test]
fn messages_arrive_over_websocket_in_the_clear_and_under_tls() {
    for http_tls in [false, true] {
        let config = format!("[http]\ntls = {http_tls}\n");
        let Some(started) = start_with(12, &config) else { return };
        let how = if http_tls { "direct" } else { "none" };
        let common =
            ["--transport", "websocket", "--tls", how, "--port", &started.http, "--keys", &started.keys];
        let args = ["chat", "--sessions", "12", "--warmup", "0", "--duration", "1", "--drain", "30"];
        // Longer than a frame with a short header.
        let long = ["--body", "70000", "--window", "1", "--quiet", "--json", "-"];
        let output = perf(&[&args[..], &long, &common].concat());
        assert_eq!(told(&output).0, Some(0), "chat, {how}: {}", told(&output).1);
        let chat = report(&output);
        let totals = &chat["totals"];
        assert_eq!((&totals["logins"], &totals["stream_management"]), (&12.into(), &12.into()), "{how}");
        assert!(totals["sent"].as_u64().unwrap() > 0, "{how}");
        assert_eq!(totals["sent"], totals["delivered"], "{how}");
        assert_eq!(chat["facts"]["transport"], "WebSocket");

        let args = ["hold", "--sessions", "4,12", "--settle", "0", "--duration", "2", "--drain", "30"];
        let more = ["--messages", "50", "--ping", "1", "--pipeline", "--quiet", "--json", "-"];
        let output = perf(&[&args[..], &more, &common].concat());
        assert_eq!(told(&output).0, Some(0), "hold, {how}: {}", told(&output).1);
        let totals = &report(&output)["totals"];
        assert_eq!(totals["logins"], 12, "{how}");
        assert!(totals["pings_answered"].as_u64().unwrap() > 0, "{how}");
        assert_eq!(totals["sent"], totals["delivered"], "{how}");

        // Where there is none, the answer of the server is the reason.
        let output =
            perf(&[&["chat", "--sessions", "2", "--path", "/elsewhere", "--quiet"][..], &common].concat());
        assert_eq!(told(&output).0, Some(1));
        assert!(told(&output).1.contains("404"), "{}", told(&output).1);
    }
}

#[test]
fn servers_are_compared_over_both_transports_in_one_run() {
    let (Some(_), Some(_)) = (beside("whimbreld"), beside("whimbrelctl")) else {
        eprintln!("skipped: build whimbreld and whimbrelctl first");
        return;
    };
    let servers = servers_that_are_here();
    let all = servers.join(",");
    let mut args = vec!["peers", "--servers", &all, "--transport", "tcp,websocket", "--rounds", "1"];
    args.extend(["--hold", "2,6", "--settle", "0", "--sessions", "4", "--duration", "1"]);
    args.extend(["--quiet", "--json", "-"]);
    let output = perf(&args);
    let (code, stderr) = told(&output);
    assert_eq!(code, Some(0), "{stderr}");
    let report = report(&output);
    let runs = report["runs"].as_array().unwrap();
    // Memory and chat of each over each, and the bare router.
    assert_eq!(runs.len(), 2 * 2 * servers.len() + 1, "{report}");
    for (run, transport) in runs.iter().zip(["TCP", "TCP", "WebSocket", "WebSocket"].iter().cycle()) {
        if run["label"].as_str().unwrap().starts_with("floor") {
            continue;
        }
        assert_eq!(run["facts"]["transport"], *transport, "{run}");
        let named = run["label"].as_str().unwrap().ends_with(", WebSocket");
        assert_eq!(named, *transport == "WebSocket", "{run}");
        assert!(run["totals"]["logins"].as_u64().is_some_and(|logins| logins >= 4), "{run}");
        assert_eq!(run["totals"]["sent"], run["totals"]["delivered"], "{run}");
    }
    let figures = ["memory: bytes a session, anonymous", "messages a second of server CPU"];
    for figure in figures {
        let rows = report["table"].as_array().unwrap().iter().filter(|row| row["figure"] == figure);
        assert!(rows.count() >= 2 * servers.len(), "{figure}");
    }
    let (code, stderr) = told(&perf(&["peers", "--servers", "nats", "--transport", "websocket", "--quiet"]));
    assert_eq!(code, Some(1));
    assert!(stderr.contains("not measured over WebSocket"), "{stderr}");
}

/// With whatever servers are installed beside it.
#[test]
fn publications_reach_every_contact_and_last_items_every_login() {
    let (Some(_), Some(_)) = (beside("whimbreld"), beside("whimbrelctl")) else {
        eprintln!("skipped: build whimbreld and whimbrelctl first");
        return;
    };
    let servers = servers_that_are_here();
    let all = servers.join(",");
    let mut args =
        vec!["pep", "--servers", &all, "--whimbrel", "mio:2", "--contacts", "5", "--publications", "4"];
    args.extend(["--nodes", "3", "--logins", "2", "--rounds", "2", "--quiet", "--json", "-"]);
    let output = perf(&args);
    let (code, stderr) = told(&output);
    assert_eq!(code, Some(0), "{stderr}");
    let report = report(&output);
    let runs = report["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 2 * servers.len(), "{report}");
    for run in runs {
        let [publish, node, login] = &run["phases"].as_array().unwrap()[..] else { panic!("{run}") };
        for (phase, name) in [(publish, "publish"), (node, "node")] {
            let counted = (&phase["name"], &phase["counted"]["delivered"]);
            assert_eq!(counted, (&name.into(), &20.into()), "{run}");
            assert_eq!(phase["latencies"][name]["count"], 4);
            if run["label"].as_str().unwrap().starts_with("Whimbrel") {
                assert_eq!(phase["figures"]["events that came more than once"], 0.0, "{phase}");
            }
        }
        assert_eq!((&login["name"], &login["counted"]["delivered"]), (&"login".into(), &6.into()), "{run}");
        assert_eq!(login["latencies"]["login"]["count"], 2);
        let cpu = &login["figures"]["milliseconds of server CPU for each"];
        assert!(cpu.as_f64().is_some(), "the server's processes are found: {login}");
    }
    let rows = report["table"].as_array().unwrap();
    assert!(rows.iter().any(|row| row["figure"] == "publish: deliveries a second of server CPU"), "{rows:?}");
}

#[test]
fn a_life_loses_no_message_while_others_come_and_go() {
    let Some(Started { port, keys, .. }) = &start_with(24, "") else { return };
    let mut args = vec!["life", "--port", port, "--sessions", "24", "--group", "4", "--mobile", "3"];
    args.extend([
        "--mix",
        "40,20,15,15,10",
        "--events",
        "200",
        "--warmup",
        "0",
        "--duration",
        "2",
        "--quiet",
    ]);
    args.extend(["--json", "-", "--keys", keys]);
    let output = perf(&args);
    assert_eq!(told(&output).0, Some(0), "{}", told(&output).1);
    let report = report(&output);
    let phases = report["phases"].as_array().unwrap();
    let names: Vec<&str> = phases.iter().filter_map(|phase| phase["name"].as_str()).collect();
    assert!(names[1..].starts_with(&["rooms are made", "rooms are entered"]), "{names:?}");
    let life = &phases[3];
    assert_eq!(life["name"], "life at 200 events a second");
    for count in ["sent", "group_sent", "presence_sent", "presence_received", "pings_answered", "logins"] {
        assert!(life["whole"][count].as_u64().is_some_and(|count| count > 0), "{count}: {life}");
    }
    assert_eq!(report["totals"]["sent"], report["totals"]["delivered"]);
    // Of each group of four, two or all stay, and hear everything that is said, themselves included.
    let (said, copies) = (&life["whole"]["group_sent"], &life["whole"]["group_delivered"]);
    let (said, copies) = (said.as_u64().unwrap(), copies.as_u64().unwrap());
    assert!((2 * said..=4 * said).contains(&copies), "{life}");
    assert_eq!(report["totals"]["group_lost"], 0);
    assert!(
        life["latencies"]["group message"]["count"].as_u64().is_some_and(|count| count == copies),
        "{life}"
    );
    assert!(life["latencies"]["roster"]["count"].as_u64().is_some_and(|count| count > 0), "{life}");

    // A limit that nothing meets: the first step is past the knee.
    let mut args = vec!["life", "--port", port, "--sessions", "24", "--group", "4", "--subscribed", "--knee"];
    args.extend([
        "--p99",
        "0.000001",
        "--warmup",
        "0",
        "--duration",
        "1",
        "--quiet",
        "--json",
        "-",
        "--keys",
        keys,
    ]);
    let output = perf(&args);
    assert_eq!(told(&output).0, Some(0), "{}", told(&output).1);
    let report = crate::support::report(&output);
    let knee = report["phases"].as_array().unwrap().last().unwrap();
    assert_eq!(knee["name"], "knee");
    let beyond = report["facts"]["beyond the knee"].as_str().unwrap();
    assert!(beyond.starts_with("at 500 events a second: p99 of a "), "{beyond}");
    assert_eq!(knee["figures"]["knee, events a second"], 0.0, "{report}");
    let (code, stderr) = told(&perf(&["life", "--port", port, "--mix", "50,20,15,5,11"]));
    assert_eq!(code, Some(1));
    assert!(stderr.contains("come to 100"), "{stderr}");
}

/// A server that runs, and is ended when this is dropped.
struct Started {
    _server: Server,
    /// Its port for TCP.
    port: String,
    /// Its port for HTTP, where the configuration has a table of it.
    http: String,
    /// A file of keys.
    keys: String,
    _folder: tempfile::TempDir,
}

/// A server with so many accounts and this configuration.
fn start_with(accounts: u32, config: &str) -> Option<Started> {
    let (Some(whimbreld), Some(whimbrelctl)) = (beside("whimbreld"), beside("whimbrelctl")) else {
        eprintln!("skipped: build whimbreld and whimbrelctl first");
        return None;
    };
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (data, file, keys, toml) = (path("data"), path("accounts"), path("keys"), path("toml"));
    std::fs::write(&toml, config).unwrap();
    std::fs::write(&file, perf(&["accounts", &accounts.to_string()]).stdout).unwrap();
    let import = Command::new(whimbrelctl)
        .args(["--data", &data, "user", "import", "--create", &file])
        .output()
        .unwrap();
    assert!(import.status.success(), "{import:?}");
    let (port, tls, http) = (free_port(), free_port(), free_port());
    let has_http = config.contains("[http]");
    let listen_http = if has_http { format!("127.0.0.1:{http}") } else { "none".into() };
    let child = Command::new(whimbreld)
        .args(["--config", &toml, "--data", &data, "--listen", &format!("127.0.0.1:{port}")])
        .args([
            "--listen-tls",
            &format!("127.0.0.1:{tls}"),
            "--listen-http",
            &listen_http,
            "--allow-plaintext",
        ])
        .args(["--workers", "2"])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let server = Server(child);
    let end = Instant::now() + Duration::from_secs(60);
    let listens = |port| std::net::TcpStream::connect(("127.0.0.1", port)).is_ok();
    while !listens(port) || has_http && !listens(http) {
        assert!(Instant::now() < end, "whimbreld does not listen");
        std::thread::sleep(Duration::from_millis(20));
    }
    let (port, http) = (port.to_string(), http.to_string());
    Some(Started { _server: server, port, http, keys, _folder: folder })
}

#[test]
fn rooms_of_a_server_are_measured_in_all_their_parts() {
    let (Some(_), Some(_)) = (beside("whimbreld"), beside("whimbrelctl")) else {
        eprintln!("skipped: build whimbreld and whimbrelctl first");
        return;
    };
    let mut args =
        vec!["group", "--servers", "whimbrel", "--sizes", "3", "--duration", "1", "--rejoins", "2"];
    args.extend([
        "--rooms",
        "3",
        "--of",
        "2",
        "--returns",
        "2",
        "--hold",
        "100,200",
        "--quiet",
        "--json",
        "-",
    ]);
    let output = perf(&args);
    let (code, stderr) = told(&output);
    assert_eq!(code, Some(0), "{stderr}");
    let comparison = report(&output);
    let runs = comparison["runs"].as_array().unwrap();
    let phases = |run: &serde_json::Value| -> Vec<String> {
        let phases = run["phases"].as_array().unwrap();
        phases.iter().map(|phase| phase["name"].as_str().unwrap().to_owned()).collect()
    };
    let found: Vec<(String, Vec<String>)> =
        runs.iter().map(|run| (run["scenario"].as_str().unwrap().to_owned(), phases(run))).collect();
    let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let expected = [
        ("room of 3", texts(&["leaving and joining", "closed loop", "open loop"])),
        ("room of 3", texts(&["closed loop", "open loop"])),
        ("3 rooms of 2", texts(&["coming back"])),
        ("rooms that are held", texts(&["held rooms"])),
    ];
    assert_eq!(found, expected.map(|(scenario, phases)| (scenario.to_owned(), phases)));
    for run in runs {
        assert!(run["problems"].as_array().is_none_or(Vec::is_empty), "{run}");
    }
    let held = &runs[3]["phases"][0]["figures"];
    for figure in ["bytes of a room with one occupant", "bytes of another occupant", "rooms made a second"] {
        assert!(held[figure].is_number(), "{held}");
    }
}
